"""Progress as lines: of one stage, and of candidates that run at the same time."""

from __future__ import annotations

import io

from rich.console import Console

from qatspec.cli.console import CleanConsole
from qatspec.cli.live import Live
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
