"""Characters that a terminal obeys or that change the order of what is read, made visible."""

from __future__ import annotations

import re

#: Control characters (C0, DEL, C1), marks and overrides of text direction (Unicode TR 9), line and
#: paragraph separators, byte order marks, and surrogates, which are not text at all.
_HIDDEN = (
    "\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff"
)
_MANY_LINES = re.compile(f"[{_HIDDEN}]")
_ONE_LINE = re.compile(f"[{_HIDDEN}\t\n]")
#: What GitHub Actions takes for a command: a line that starts with two colons, blanks aside.
_COMMAND = re.compile(r"^(\s*):(?=:)", re.MULTILINE)


def clean(text: str) -> str:
    r"""Return text of several lines as it may be printed.

    Each hidden character becomes `\uXXXX`, which means the same character inside JSON; tabs and
    line feeds stay. No line is a workflow command of GitHub.
    """
    return _COMMAND.sub(r"\1\\u003a", clean_file(text))


def clean_file(text: str) -> str:
    r"""Return the text of a page or drawing, which may hold names of files, classes and layers.

    Each hidden character becomes `\uXXXX`: XML allows no control characters.
    """
    return _MANY_LINES.sub(_escaped, text)


def clean_line(text: str) -> str:
    r"""Return a value that is part of one line: as `clean`, with tabs and line feeds escaped too.

    A file name with a line feed can then not start a line of its own.
    """
    return _ONE_LINE.sub(_escaped, text)


def mask(line: str) -> str:
    """Return a line of a file with one visible character for each of its characters."""
    return _ONE_LINE.sub("\ufffd", line.replace("\t", "\N{RIGHTWARDS ARROW}"))


def _escaped(match: re.Match[str]) -> str:
    return f"\\u{ord(match.group()):04x}"
