"""Studies over the settings of a spec."""

from __future__ import annotations

import subprocess
import sys

import pytest
from qatspec_trackers.ranges import Range, parse_range
from qatspec_trackers.study import JOURNAL, Study, conduct

from qatspec.diag import DiagnosticError
from tests.unit.engine.test_execute import Killed

LR = "stages.qat.trainer.optimizer.lr"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a.b=1:8", Range("a.b", 1, 8)),
        ("a.b=0.5:8", Range("a.b", 0.5, 8)),
        ("a.b=1e-4:1e-2:log", Range("a.b", 1e-4, 1e-2, True)),
        ("a.b=x,y", Range("a.b", choices=("x", "y"))),
    ],
)
def test_ranges(text, expected):
    assert parse_range(text) == expected


@pytest.mark.parametrize("text", ["a", "a=", "=1:2", "a=2:1", "a=0:1:log", "a=1:x", "a=1:2:lin"])
def test_wrong_ranges_are_refused(text):
    with pytest.raises(DiagnosticError) as caught:
        parse_range(text)
    assert caught.value.diagnostics[0].code == "QS306"


def test_without_optuna_the_package_is_named(project, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    study = Study(spec=project.spec, stage="qat", ranges=[], workdir=project.workdir)
    with pytest.raises(DiagnosticError, match="optuna") as caught:
        conduct(study, 1, 0, print)
    assert caught.value.diagnostics[0].code == "QS921"


def test_a_killed_study_goes_on_to_the_same_trials(project, tmp_path, monkeypatch):
    pytest.importorskip("optuna", reason="Optuna is not installed")
    ranges = [parse_range(f"{LR}=1e-4:1e-1:log"), parse_range("vars.lr=0.05,0.04")]
    settings = {"spec": project.spec, "stage": "qat", "ranges": ranges, "allow_code": True}
    lines: dict[str, list[str]] = {"one": [], "two": []}
    best = conduct(Study(workdir=tmp_path / "one", **settings), 3, 0, lines["one"].append)
    assert len(lines["one"]) == 3 and set(best) == {LR, "vars.lr"}

    real, calls = Study.value, []

    def value(self, params):
        calls.append(params)
        if len(calls) == 2:
            raise Killed
        return real(self, params)

    monkeypatch.setattr(Study, "value", value)
    study = Study(workdir=tmp_path / "two", **settings)
    with pytest.raises(Killed):
        conduct(study, 3, 0, lines["two"].append)
    assert conduct(study, 3, 0, lines["two"].append) == best
    assert calls[1] == calls[2]  # the trial that was broken off
    assert [line[5:] for line in lines["two"]] == [line[5:] for line in lines["one"]]
    assert (tmp_path / "two" / JOURNAL).exists()


def test_the_command_reports_mistakes(project):
    pytest.importorskip("optuna", reason="Optuna is not installed")
    line = [
        sys.executable,
        "-m",
        "qatspec_trackers.study_command",
        "toy.yaml",
        "--vary",
        "stages.qat.lr=1:2",
    ]
    done = subprocess.run(
        [*line, "--allow-code", "--trials", "1"], cwd=project.folder, text=True,
        capture_output=True, check=False, timeout=300, env=project.environment(),
    )  # fmt: skip
    assert done.returncode == 1
    assert "error[QS" in done.stderr and "`lr`" in done.stderr
