"""docs/errors.md, row by row: the mistake is made, and the command ends as the row says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.contract import mistakes_in_files
from tests.contract.mistakes import MISTAKES

PAGE = Path(__file__).parents[2] / "docs" / "errors.md"
ROW = re.compile(r"^\| ([^|]+) \| [^|]+ \| (QS\d{3}|-) \| (\d+) \|$", re.MULTILINE)
ROWS = {what: (code, int(exit_code)) for what, code, exit_code in ROW.findall(PAGE.read_text())}


def test_every_row_has_its_mistake():
    assert ROWS.keys() == MISTAKES.keys() > mistakes_in_files.NAMES


@pytest.mark.parametrize("what", ROWS)
def test_a_row(copy, what):
    code, exit_code = ROWS[what]
    prepared = MISTAKES[what](copy)
    done = prepared() if callable(prepared) else copy.call(*prepared)
    assert done.returncode == exit_code, done.stderr
    assert re.findall(r"error\[(QS\d+)\]", done.stderr)[:1] == ([code] if code != "-" else [])
    assert "internal error" not in done.stderr and "Traceback" not in done.stderr
    if exit_code == 3:
        assert "from: toy_plugin.py" in done.stderr
        assert "toy_plugin.py:" in done.stderr or code == "QS007" or what == "A hook raises"
