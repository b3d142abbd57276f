"""Digests of values and keys, and what of the machine they cover."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from qatspec.diag import DiagnosticError
from qatspec.plan.digest import (
    default_threads,
    device_kind,
    digest,
    digest_of_keys,
    software,
    starting_from,
    tried_step,
    with_environment,
    with_keys,
)
from qatspec.plan.model import Step
from qatspec.registry.plugins import hash_sources
from qatspec.source.environment import remember


def test_the_text_that_is_hashed():
    text = '{"a":[1,2.5,null,true],"\\u00e9":{"b":"x"}}'
    value = {"é": {"b": "x"}, "a": (1.0, 2.5, None, True)}
    assert digest(value) == hashlib.sha256(text.encode("ascii")).hexdigest()


@pytest.mark.parametrize(
    "one, other",
    [(128.0, 128), ((1, 2), [1, 2]), ({"a": 1, "b": 2}, {"b": 2, "a": 1}), ({1: 2}, {"1": 2}),
     ([{"x": [3.0]}], ({"x": (3,)},))],
)  # fmt: skip
def test_equal_meaning_equal_digest(one, other):
    assert digest(one) == digest(other)


@pytest.mark.parametrize(
    "one, other",
    [(128.5, 128), (1, True), (1, "1"), ([1, 2], [2, 1]), ({"a": None}, {}), ([[1], 2], [1, [2]]),
     (-3.0, 3), (0.1, 0.10000000000000002)],
)  # fmt: skip
def test_other_meaning_other_digest(one, other):
    assert digest(one) != digest(other)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), [float("-inf")]])
def test_numbers_that_are_not_finite_have_no_digest(value):
    with pytest.raises((ValueError, OverflowError)):
        digest(value)


def test_a_batch_size_is_the_same_wherever_it_is_written():
    role, stage = ({key: 8} for key in ("/data/train/batch_size", "/stages/qat/batch_size_per_gpu"))
    assert digest_of_keys(role) == digest_of_keys(stage)
    assert digest_of_keys(role) != digest_of_keys({"/data/train/batch_size": 9})
    for key in ("/data/val/batch_size", "/data/train/batch_size/0", "x/data/train/batch_size",
                "/data/batch_size", "/stages/batch_size_per_gpu"):  # fmt: skip
        assert digest_of_keys({key: 8}) != digest_of_keys(role)


@pytest.mark.parametrize(
    "asked, threads", [("3", 3), ("1", 1), ("0", None), ("", None), ("x", None)]
)
def test_threads_of_one_process(monkeypatch, asked, threads):
    monkeypatch.setenv("OMP_NUM_THREADS", asked)
    assert default_threads() == (threads or len(os.sched_getaffinity(0)))
    assert default_threads(2) == 1


@pytest.mark.parametrize("name", ["cpu", "cuda", "cuda:0", "cuda:12"])
def test_a_device_is_of_its_kind(name):
    assert device_kind(name) == name.partition(":")[0]


@pytest.mark.parametrize("name", ["cpu:0", "cuda:", "cuda:x", "xcpu", "cpux", "mps", "", "CPU"])
def test_other_devices_are_refused(name):
    with pytest.raises(DiagnosticError, match="QS907") as raised:
        device_kind(name)
    assert f"`{name}`" in str(raised.value)


@pytest.mark.parametrize(
    "torch, files, visible, kind",
    [
        ("2.13.0+cu126", ["nvidia0"], None, "cuda"),
        ("2.13.0", ["nvidia0"], None, "cuda"),
        ("2.13.0+cu126", ["nvidia0"], "1", "cuda"),
        ("2.13.0+rocm6", ["kfd"], None, "cuda"),
        ("2.13.0+cu126", ["dxg"], None, "cuda"),
        ("2.13.0+cu126", [], None, "cpu"),
        ("2.13.0+cu126", ["nvidiactl"], None, "cpu"),
        ("2.13.0+cpu", ["nvidia0"], None, "cpu"),
        ("2.13.0+cu126", ["nvidia0"], "", "cpu"),
        ("2.13.0+cu126", ["nvidia0"], "-1", "cpu"),
    ],
)
def test_auto_is_what_torch_would_use(monkeypatch, tmp_path, torch, files, visible, kind):
    for name in files:
        (tmp_path / name).touch()
    glob = Path.glob
    monkeypatch.setattr(
        Path, "glob", lambda path, kind: glob(tmp_path if path == Path("/dev") else path, kind)
    )
    monkeypatch.setattr(importlib.metadata, "version", lambda name: torch)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert device_kind("auto") == kind


def step_of(**keys):
    return Step(
        name="qat", inputs=("float",), outputs=("qat/best",), digest=digest_of_keys(keys),
        keys=keys, plugins=(),
    )  # fmt: skip


def test_further_keys_are_sorted_replace_others_and_are_in_the_digest():
    step = step_of(b=1, c=2)
    more = with_keys(step, {"a": 0, "c": 3})
    assert list(more.keys.items()) == [("a", 0), ("b", 1), ("c", 3)]
    assert more.digest == digest_of_keys({"a": 0, "b": 1, "c": 3}) != step.digest
    assert (more.name, more.inputs, step.keys) == ("qat", ("float",), {"b": 1, "c": 2})


def test_a_step_depends_on_what_it_takes_of_the_step_before():
    step = step_of(**{"input:float": "planned"})
    taken = starting_from(step, "float", "sha")
    assert taken.keys == {"input:float": "sha"} and taken.digest == digest_of_keys(taken.keys)


def test_a_step_depends_on_the_last_step_of_each_candidate():
    before, first, last = (step_of(x=number) for number in range(3))
    candidates = [
        SimpleNamespace(name=name, steps=(before, before, tried))
        for name, tried in (("fast", last), ("slow", first))
    ]
    tried = tried_step(step_of(y=1), candidates)
    assert tried.keys == {"candidate:fast": last.digest, "candidate:slow": first.digest, "y": 1}
    assert tried.digest == digest_of_keys(tried.keys)


def test_a_value_of_the_environment_counts_beside_its_reference(monkeypatch):
    here, there = ({"root": remember("DATA", value), "seed": 0} for value in ("/here", "/there"))
    keys = with_environment({"z": 1, **here})
    assert list(keys) == ["root", "root#environment", "seed", "z"]
    assert keys["root"] == "/here" and keys["root#environment"] == digest("/here")
    assert with_environment(there)["root#environment"] == digest("/there")
    assert with_environment({"b": 1, "a": "x"}) == {"a": "x", "b": 1}


def test_software_is_the_sources_and_the_version_of_torch():
    import qatspec

    assert software() == {
        "qatspec": f"{qatspec.__version__} {hash_sources(qatspec)}",
        "torch": importlib.metadata.version("torch"),
    }
