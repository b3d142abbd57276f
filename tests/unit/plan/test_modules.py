"""The module table: kept by what the ops depend on, read back, and used for warnings."""

from __future__ import annotations

import json

import pytest

from qatspec.plan import load_modules, rule_warnings, rules_of, save_modules
from qatspec.spec import Call, load
from tests.diagnostics.plugin import fake_registry

NAMES = fake_registry()
SPEC = """\
qatspec: 1
name: digits
march: bayes
model: {type: net, params: {num_classes: 10}, input: {size: [64, 64]}}
data:
  train: {type: digits}
  val: {type: digits}
quantize:
  modules:
    head:
      prepare:
        standalone_module_name:
          - {name: inner, qconfig: {"": horizon_qat, module_name: {lost: null}}}
stages:
  float: {trainer: {epochs: 1, optimizer: {type: sgd, lr: 0.1}}}
  qat:
    trainer: {epochs: 1, optimizer: {type: sgd, lr: 0.1}}
    qconfig:
      "": horizon_qat
      object_type: {torch.nn.Conv2d: null}
      module_name: {cls: horizon_qat, gone: null}
      module_name_regex: {'cls.*': null, 'gone.*': null}
"""


def call(module, *names, entry="", unit="head", index=0):
    return Call(
        node=f"{unit}:{module}", unit=unit, entry=entry, module=module, names=names, index=index
    )


INNER = "/quantize/modules/head/prepare/standalone_module_name/0"
CALLS = (
    call("cls.0", "conv2d", "torch.nn.Conv2d"),
    call("cls.1", "relu", "torch.nn.ReLU"),
    call("", "linear", entry=INNER, unit="head.inner"),
)


@pytest.fixture
def spec(tmp_path):
    def read(text=SPEC):
        path = tmp_path / "spec.yaml"
        path.write_text(text)
        return load(path, registry=NAMES)

    return read


def test_round_trip(spec, tmp_path):
    assert load_modules(tmp_path, spec(), "qat", NAMES) is None
    assert save_modules(tmp_path, spec(), "qat", CALLS, NAMES) is not None
    assert load_modules(tmp_path, spec(), "qat", NAMES) == CALLS


@pytest.mark.parametrize(
    ("old", "new", "same"),
    [
        ("torch.nn.Conv2d: null", "torch.nn.ReLU: null", True),
        ("epochs: 1", "epochs: 9", True),
        ("name: digits", "name: other", True),
        ("num_classes: 10", "num_classes: 11", False),
        ("size: [64, 64]", "size: [32, 64]", False),
        ("    head:", "    tail:", False),
        ("name: inner", "name: outer", False),
    ],
)
def test_what_the_table_depends_on(spec, tmp_path, old, new, same):
    save_modules(tmp_path, spec(), "qat", CALLS, NAMES)
    assert old in SPEC
    changed = spec(SPEC.replace(old, new))
    assert (load_modules(tmp_path, changed, "qat", NAMES) is not None) == same


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"format": 2}', b'{"format": 1}'])
def test_a_damaged_table_is_none(spec, tmp_path, damage):
    path = save_modules(tmp_path, spec(), "qat", CALLS, NAMES)
    path.write_bytes(damage)
    assert load_modules(tmp_path, spec(), "qat", NAMES) is None


def test_a_table_of_other_fields_is_none(spec, tmp_path):
    path = save_modules(tmp_path, spec(), "qat", CALLS, NAMES)
    content = json.loads(path.read_text())
    content["calls"][0]["more"] = 1
    path.write_text(json.dumps(content))
    assert load_modules(tmp_path, spec(), "qat", NAMES) is None


def test_a_folder_that_cannot_be_written_costs_nothing(spec, tmp_path):
    (tmp_path / "modules").write_text("a file stands in the way")
    assert save_modules(tmp_path, spec(), "qat", CALLS, NAMES) is None


def test_standalone_modules_have_rules_of_their_own(spec):
    rules = rules_of(spec(), "qat")
    assert set(rules) == {("head", ""), ("", INNER)}
    assert rules["", INNER].rules[0].preset == "horizon_qat"


def test_warnings(spec, tmp_path):
    assert rule_warnings(tmp_path, spec(), NAMES) == ([], False)
    save_modules(tmp_path, spec(), "qat", CALLS, NAMES)
    found, known = rule_warnings(tmp_path, spec(), NAMES)
    assert known
    unmatched = [d.at for d in found if d.code == "QS312"]
    assert sorted(unmatched) == [
        f"{INNER}/qconfig/module_name/lost",
        "/stages/qat/qconfig/module_name/gone",
        "/stages/qat/qconfig/module_name_regex/gone.*",
    ]
    (contending,) = [d for d in found if d.code == "QS314"]  # said once for a set of rules
    rules = "/stages/qat/qconfig"
    assert contending.at == f"{rules}/object_type/torch.nn.Conv2d"
    assert [note.at for note in contending.notes] == [f"{rules}/module_name/cls"] * 2
    assert "one more rule contends" in contending.message
    assert "loses to `cls.*`" in contending.notes[1].text


def test_rules_of_two_stages_are_said_once_with_both_places(spec, tmp_path):
    rules = SPEC[SPEC.index("    qconfig:\n") :]
    text = SPEC.replace("  qat:\n", f"  calibration:\n    trainer: {{steps: 1}}\n{rules}  qat:\n")
    for stage in ("calibration", "qat"):
        save_modules(tmp_path, spec(text), stage, CALLS, NAMES)
    warnings, _ = rule_warnings(tmp_path, spec(text), NAMES)
    assert [d.code for d in warnings].count("QS314") == 1
    assert len({d.message for d in warnings}) == len(warnings) == 4
    ours = [d for d in warnings if d.at.startswith("/stages")]
    assert len(ours) == 3
    for one in ours:
        assert one.at.startswith("/stages/calibration/")
        assert one.notes[0].at == one.at.replace("calibration", "qat")


def test_presets_alone_need_no_table(spec, tmp_path):
    text = SPEC[: SPEC.index("    qconfig:\n")] + "    qconfig: horizon_qat\n"
    text = text.replace('{"": horizon_qat, module_name: {lost: null}}', "horizon_qat")
    assert rule_warnings(tmp_path, spec(text), NAMES) == ([], True)
