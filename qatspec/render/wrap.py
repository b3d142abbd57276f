"""Lines that are broken between words, for a terminal."""

from __future__ import annotations

import re
import textwrap

#: A word: what stands in backticks is part of one, so that a quoted command can be copied.
WORD = re.compile(r"(?:`[^`]*`|\S)+")


def wrap(text: str, width: int, *, first: str = "", rest: str = "") -> list[str]:
    """Break a line between words (`WORD`).

    width: columns of a line with its indent, which a longer word exceeds. first, rest: the indent
    of the first line and of the others. Returns no line for a text without words.
    """
    joined = WORD.sub(lambda word: word[0].replace(" ", "\0"), text)
    lines = textwrap.wrap(
        joined, width, initial_indent=first, subsequent_indent=rest,
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip
    return [line.replace("\0", " ") for line in lines]
