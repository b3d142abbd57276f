"""How lines of code are counted (tests/bench/lines.py), and the length of files."""

from __future__ import annotations

import pytest
from lines import LONGEST, code_lines, sources

COUNTED = [
    ("", 0),
    ('"""A module."""\n\n# a comment\n', 0),
    ('def f():\n    """What it does."""\n    return 1  # why\n', 2),
    ('class A:\n    """A record.\n\n    x  a number\n    """\n\n    x: int\n', 2),
    ('text = """\nfirst\n\nlast\n"""\n', 5),
    ("call(\n    a,\n    # the second\n    b,\n)\n", 4),
    ("def f():\n    x = 1\n    'no docstring'\n", 3),
]


@pytest.mark.parametrize("source, count", COUNTED)
def test_lines_that_hold_code_are_counted(source, count):
    assert code_lines(source) == count


@pytest.mark.parametrize("folder", ["qatspec", "plugins", "tests"])
def test_a_file_is_short_enough_to_be_read(folder):
    lengths = {str(path): source.count("\n") for path, source in sources(folder, commit=None)}
    assert {path: length for path, length in lengths.items() if length > LONGEST} == {}
