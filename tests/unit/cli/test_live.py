"""Progress as lines: of one stage, and of candidates that run at the same time."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from types import SimpleNamespace

from rich.console import Console

from qatspec.cli.console import CleanConsole
from qatspec.cli.live import Live
from qatspec.cli.options import Warnings
from qatspec.diag import Span
from qatspec.diag.codes import QS312
from qatspec.types import StageEvent


def shown(*events) -> list[str]:
    out = io.StringIO()
    with Live(Console(file=out, width=100), lambda diagnostic: None) as live:
        for kind, step, data in events:
            live.show(StageEvent(kind=kind, step=step, data=data))
    return out.getvalue().splitlines()


def moved(step: str, done: int, **more):
    return "progress", step, {"done": done, "total": 4, "unit": "step", **more}


def test_candidates_side_by_side_are_told_apart(monkeypatch):
    monkeypatch.setattr("qatspec.cli.live.PLAIN_INTERVAL", 0.0)
    lines = shown(
        moved("qat/base", 1),
        moved("qat/slow", 1),
        moved("qat/base", 2),
        moved("qat/slow", 1, phase="evaluate"),
        ("metrics", "qat/slow", {"step": 4, "AP": 7.0}),
        moved("qat/base", 3),
        ("step_finished", "qat/base", {"metrics": {"AP": 5.0}, "seconds": 2.0}),
    )
    assert [line.split(",")[0].strip() for line in lines] == [
        "qat/base 1/4 steps",
        "qat/slow 1/4 steps",
        "qat/base 2/4 steps",
        "qat/slow: evaluate 1/4 steps",
        "qat/slow: step 4  AP 7.0",
        "qat/base 3/4 steps",
        "qat/base: done in 2.0 s  AP 5.0",
    ]


def test_what_happens_before_training_is_said():
    """Trying the stages of a large network takes a minute, in which nothing else is printed."""
    (line,) = shown(("rehearsal", "float", {"stages": ["float", "qat"]}))
    assert line == "before training, each stage is tried on a batch: float, qat"


def test_a_stage_alone_needs_no_name():
    assert shown(("metrics", "qat", {"epoch": 1, "step": 4, "AP": 7.0})) == ["  epoch 1  AP 7.0"]


def test_a_profile_that_was_asked_for_is_printed_under_quiet_too():
    out = io.StringIO()
    console = CleanConsole(file=out, width=100, quiet=True)
    with Live(console, lambda diagnostic: None) as live:
        seconds = {"data": 1.0, "forward": 3.0}
        for kind, data in (
            ("profile", {"seconds": seconds, "steps": 4}),
            ("metrics", {"step": 4, "AP": 7.0}),
        ):
            live.show(StageEvent(kind=kind, step="qat", data=data))
    assert [line.split() for line in out.getvalue().splitlines()] == [
        ["where", "the", "time", "of", "4", "steps", "went"],
        ["data", "1.00", "s", "25.0%"],
        ["forward", "3.00", "s", "75.0%"],
    ]


def test_a_terminal_gets_lines_that_are_broken_between_words():
    out = io.StringIO()
    words = "calibration of other settings is kept as .kept/calibration-0260c7444e1b509e (193 KiB)"
    with Live(CleanConsole(file=out, width=50, force_terminal=True), lambda d: None) as live:
        live.show(StageEvent(kind="log", step="calibration", data={"message": words}))
        live.show(StageEvent(kind="log", step="calibration", data={"message": f"{'n' * 60} end"}))
        kept = "it is kept; `qatspec run spec.yaml --set seed=11` makes the other one"
        live.show(StageEvent(kind="log", step="calibration", data={"message": kept}))
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\r", "", out.getvalue())
    assert [line for line in plain.splitlines() if line.strip()] == [
        "  calibration of other settings is kept as",
        "      .kept/calibration-0260c7444e1b509e (193 KiB)",
        f"  {'n' * 60}",
        "      end",
        "  it is kept;",
        "      `qatspec run spec.yaml --set seed=11` makes",
        "      the other one",
    ]


def test_a_warning_in_the_words_of_an_earlier_stage_is_its_place(capsys):
    def resolve(diagnostics):
        return [replace(d, span=Span("spec.yaml", int(d.at[1:]), 3, 1, 4)) for d in diagnostics]

    spec = SimpleNamespace(document=SimpleNamespace(texts={}, resolve=resolve))
    warned = Warnings(spec)
    for line, rule in (("/2", "stem"), ("/5", "stem"), ("/6", "head")):
        warned(QS312.warning(f"the rule `{rule}` matches nothing", help="look", at=line))
    said = capsys.readouterr().err.splitlines()
    assert [line for line in said if line.startswith("spec.yaml")] == [
        "spec.yaml:2:3: warning[QS312]: the rule `stem` matches nothing",
        "spec.yaml:5:3: warning[QS312]: as above",
        "spec.yaml:6:3: warning[QS312]: the rule `head` matches nothing",
    ]
