"""Editing a value of candidates changes the stage that tries them, and no other."""

from __future__ import annotations

import json

import pytest

from tests.unit.plan.test_every_key import FULL, build, edit, own_keys


def tried():
    """FULL with a stage qat in several variants."""
    data = json.loads(json.dumps(FULL))
    del data["stages"]["calibration"]["solver"]["pre_step_checkpoint"]
    data["stages"]["float"]["trainer"].update(epochs=9, validate_epochs=1)
    data["stages"]["qat"].update(
        init_from=["last", {"epoch": 7}], candidates={"slow": {"batch_size_per_gpu": 3}}, seeds=[0]
    )
    return data


TRIED = tried()


@pytest.mark.parametrize(
    "pointer", ["init_from/1/epoch", "candidates/slow/batch_size_per_gpu", "seeds/0"]
)
def test_candidates_count_for_the_stage_that_tries_them(pointer, tmp_path):
    before = build(tmp_path, TRIED)
    data = json.loads(json.dumps(TRIED))
    edit(data, f"/stages/qat/{pointer}", 8)
    after = build(tmp_path, data)
    pairs = zip(before.steps, after.steps, strict=True)
    assert [a.name for a, b in pairs if own_keys(a) != own_keys(b)] == ["qat"]
    assert all(c.stage == "qat" for c in after.candidates) and len(after.candidates) == 2


def test_a_seed_of_a_stage_is_that_of_the_stage_alone(tmp_path):
    before = build(tmp_path, FULL)
    data = json.loads(json.dumps(FULL))
    data["stages"]["qat"]["seed"] = FULL["seed"] + 1
    after = build(tmp_path, data)
    pairs = zip(before.steps, after.steps, strict=True)
    assert [a.name for a, b in pairs if own_keys(a) != own_keys(b)] == ["qat"]
    data["stages"]["qat"]["seed"] = FULL["seed"]
    assert [s.digest for s in build(tmp_path, data).steps] == [s.digest for s in before.steps]
