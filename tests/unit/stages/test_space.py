"""The disk space of a run is estimated before its first training, and refused where it lacks."""

from __future__ import annotations

import re

import pytest

from qatspec.diag import DiagnosticError
from qatspec.stages import space

UNITS = {"bytes": 1, "KiB": 1 << 10, "MiB": 1 << 20}


def _bytes(text: str) -> float:
    number, unit = text.split()
    return float(number) * UNITS[unit]


def _refused(project, monkeypatch, free: int, *overrides: str):
    """The diagnostic of a run with so many free bytes; it ends before any training."""
    monkeypatch.setattr(space, "_free", lambda folder: free)
    with pytest.raises(DiagnosticError) as caught:
        project.run(*overrides)
    assert "step_started" not in [event.kind for event in project.events]
    assert not list(project.workdir.glob("*/*checkpoint*"))
    (found,) = caught.value.diagnostics
    assert found.code == "QS937"
    return found


def _parts(message: str) -> dict[str, float]:
    """stage -> bytes, as the message says."""
    amounts = re.findall(r"(\w+) ([\d.]+ (?:bytes|KiB|MiB))(?= \(|,|$)", message.split("free: ")[1])
    return {stage: _bytes(size) for stage, size in amounts}


def test_the_estimate_is_what_the_run_writes(finished, project, monkeypatch):
    found = _refused(project, monkeypatch, 1000)
    assert found.at == "/stages/float"
    parts = _parts(found.message)
    assert set(parts) == {"float", "calibration", "qat", "convert", "compile"}
    for stage, estimated in parts.items():
        folder = finished.workdir / stage
        checkpoints = list(folder.glob("*.pth.tar"))
        files = checkpoints or [p for p in folder.iterdir() if p.name.startswith("toy")]
        written = sum(p.stat().st_size for p in files)
        # Beside its numbers, a checkpoint has names, generators and a header for each tensor.
        slack = len(checkpoints) * 48_000 + 0.1 * written + 200
        assert abs(written - estimated) <= slack, (stage, estimated, written)
        if len(checkpoints) > 1:
            assert f"{stage} {found.message.split(f'{stage} ')[1].split(' (')[0]}" in found.message
            assert f"({len(checkpoints)} checkpoints of" in found.message.split(stage)[1]


def test_the_advice_works(project, monkeypatch):
    project.edit("epochs: 3", "epochs: 30")
    whole = _refused(project, monkeypatch, 1000)
    wanted = _bytes(re.search(r"write about ([\d.]+ \w+)", whole.message)[1])
    checkpoints = sum(_parts(whole.message)[stage] for stage in ("float", "qat"))
    free = int(wanted - 0.5 * checkpoints)
    found = _refused(project, monkeypatch, free)
    (between,) = re.findall(r"validate_epochs: (\d+)", found.help)
    more = f"stages.float.trainer.validate_epochs={int(between) - 1}"
    _refused(project, monkeypatch, free, more)

    def stop(event) -> None:
        if event.kind == "step_started":
            raise StopAsyncIteration

    with pytest.raises(StopAsyncIteration):  # nothing is refused: it trains
        project.run(more.replace(str(int(between) - 1), between), on_event=stop)


def test_what_is_there_of_a_resumed_training_is_not_counted(project, monkeypatch):
    project.run(step="float")
    (project.workdir / "float/step.json").unlink()
    there = sum(p.stat().st_size for p in (project.workdir / "float").glob("*.pth.tar"))
    needs: list[int] = []
    monkeypatch.setattr(
        "qatspec.stages.rehearsal.demand_space", lambda n, folder, present: needs.append(present)
    )
    project.run(step="float")
    assert needs == [there]


def test_space_is_asked_of_the_nearest_folder_that_is_there(tmp_path):
    assert space._free(tmp_path / "a/b/c") == space._free(tmp_path)
    assert space._free(tmp_path) > 0
