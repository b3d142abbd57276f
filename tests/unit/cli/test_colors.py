"""When text is coloured: NO_COLOR, FORCE_COLOR, and what stdout and stderr are."""

from __future__ import annotations

import io

import pytest

from qatspec.cli import output, streams
from qatspec.cli.console import CleanConsole
from qatspec.diag.codes import QS201


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch):
    for name in ("NO_COLOR", "FORCE_COLOR", "COLORTERM"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")


@pytest.mark.parametrize(
    ("environment", "terminal", "log"),
    [
        ({}, True, False),
        ({"NO_COLOR": ""}, True, False),  # no-color.org: an empty one says nothing
        ({"NO_COLOR": "1"}, False, False),
        ({"FORCE_COLOR": "1"}, True, True),
        ({"FORCE_COLOR": "0"}, True, False),
        ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, False, False),
        ({"TERM": "dumb"}, False, False),
    ],
)
def test_tables_and_diagnostics_agree_on_colours(environment, terminal, log, monkeypatch):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    for kind, expected in ((Terminal, terminal), (io.StringIO, log)):
        stream = kind()
        CleanConsole(file=stream).print("head", style="bold red")
        assert ("\x1b[" in stream.getvalue()) is expected
        stream = kind()
        monkeypatch.setattr(streams.sys, "stderr", stream)
        output.show([QS201.diagnostic("an unknown key", help="remove it")])
        assert ("\x1b[" in stream.getvalue()) is expected
        assert "an unknown key" in stream.getvalue()


def test_a_log_in_colours_has_no_moving_bars(monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert not CleanConsole(file=io.StringIO()).is_terminal
    assert CleanConsole(file=Terminal()).is_terminal
