"""Two plans by meaning."""

from __future__ import annotations

from pathlib import Path

import pytest

from qatspec.plan import diff, diff_data, diff_text, resolve
from qatspec.spec import load
from tests.diagnostics.plugin import fake_registry

NAMES = fake_registry()
SPEC = """\
qatspec: 1
name: digits
march: bayes
vars: {lr: 0.1}
model: {type: net, params: {num_classes: 10}, input: {size: [64, 64]}}
data:
  train: {type: digits, workers: 0}
  val: {type: digits, params: {split: val}}
stages:
  float: {trainer: {epochs: 1, optimizer: {type: sgd, lr: "${vars.lr}"}}}
  qat:
    trainer: {epochs: 1, optimizer: {type: sgd, lr: 0.1}}
    qconfig: horizon_qat
"""


@pytest.fixture
def compare(tmp_path):
    def compare(second, first=SPEC):
        plans = []
        for name, text in (("a.yaml", first), ("b.yaml", second)):
            (tmp_path / name).write_text(text)
            plans.append(resolve(load(tmp_path / name, registry=NAMES), registry=NAMES))
        return diff(*plans)

    return compare


def edit(*pairs):
    text = SPEC
    for old, new in pairs:
        assert old in text
        text = text.replace(old, new, 1)
    return text


@pytest.mark.parametrize(
    "second",
    [
        SPEC,
        "# a comment\n" + SPEC,
        edit(("qatspec: 1\nname: digits", "name: digits\nqatspec: 1")),
        edit(('"${vars.lr}"', "1e-1")),
        edit(("workers: 0", "workers: 4")),
        edit(("{split: val}}", "{split: val, root: ''}}")),
    ],
)
def test_the_same_meaning(compare, second):
    found = compare(second)
    assert (found.same, found.changed, found.differences) == (("float", "qat"), (), ())


def test_a_value_is_listed_once_with_the_steps_that_it_touches(compare):
    found = compare(edit(("num_classes: 10", "num_classes: 12")))
    (item,) = found.differences
    assert (item.key, item.before, item.after) == ("/model/params/num_classes", 10, 12)
    assert item.steps == ("float", "qat")
    assert [(Path(s.file).name, s.line) for s in item.at] == [("a.yaml", 5), ("b.yaml", 5)]
    assert "/model/params/num_classes: 10 -> 12" in diff_text(found)


def test_what_follows_is_not_listed(compare):
    found = compare(edit(("lr: 0.1}\n", "lr: 0.2}\n")))
    assert found.changed == ("float", "qat")
    assert [(d.key, d.steps) for d in found.differences] == [
        ("/stages/float/trainer/optimizer/lr", ("float",))
    ]


def test_a_step_of_one_plan_alone(compare):
    found = compare(SPEC[: SPEC.index("  qat:")])
    assert (found.same, found.removed, found.added) == (("float",), ("qat",), ())
    assert "qat: only in the first" in diff_text(found)


def test_a_value_that_one_plan_lacks(compare):
    found = compare(edit(("lr: 0.1}}\n    qconfig", "lr: 0.1, momentum: 0.9}}\n    qconfig")))
    assert [(d.key, d.before, d.after) for d in found.differences] == [
        ("/stages/qat/trainer/optimizer/momentum", 0, 0.9)
    ]
    preset = compare(edit(("qconfig: horizon_qat", 'qconfig: {"": horizon_qat}')))
    assert {d.absent for d in preset.differences} == {"before", "after"}
    assert ": absent -> " in diff_text(preset)


def test_json(compare):
    found = diff_data(compare(edit(("num_classes: 10", "num_classes: 12"))))
    assert found["format"] == 1
    assert found["changed"] == ["float", "qat"]
    assert found["differences"][0]["at"][1]["line"] == 5
