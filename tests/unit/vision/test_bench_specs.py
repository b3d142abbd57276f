"""The specs of the training programs stay valid, and their short form needs no data."""

from pathlib import Path

import pytest

from qatspec.api import load

SPECS = sorted((Path(__file__).parents[2] / "bench" / "specs").glob("*.yaml"))


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
def test_a_training_spec(path: Path) -> None:
    spec = load(path, ["vars.data=/nowhere"])
    assert spec.name == path.stem
    assert list(spec.stages) == ["float", "calibration", "qat", "convert", "compile"]
    assert spec.data["train"].dataset.params["root"] == "/nowhere"
    smoke = load(path, smoke=True)
    assert all("made_up" in role.dataset.params for role in smoke.data.values())


def test_there_are_four() -> None:
    assert [path.stem for path in SPECS] == ["bccd", "camvid", "coco128", "lite0"]
