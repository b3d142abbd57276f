"""The words of messages: did-you-mean and lists of choices, said the same way everywhere."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

_SHOWN = 8
#: From this likeness on, a word differs by a slip of the fingers (`grad_clp`, `num_clases`).
_SLIP = 0.83
#: Shorter words differ by meaning: `adam` is no slip for `adamw`.
_SHORTEST_CORRECTED = 5


def nearest(word: str, choices: Iterable[str], *, sure: bool = False) -> str | None:
    """The choice that `word` most likely means, or None where that would be a guess; sure: only
    where it differs by a slip of the fingers, and from no other choice by as little."""
    by_folded: dict[str, list[str]] = {}
    for choice in choices:
        by_folded.setdefault(_fold(choice), []).append(choice)
    folded = _fold(word)
    if same := by_folded.get(folded):
        return None if sure and len(same) > 1 else same[-1]
    cutoff = _SLIP if sure else 0.6 if len(folded) > 3 else 0.5
    close = difflib.get_close_matches(folded, list(by_folded), n=2, cutoff=cutoff)
    if not close or (sure and (len(close) > 1 or len(by_folded[close[0]]) > 1)):
        return None
    return by_folded[close[0]][-1]


def sure_correction(word: str, choices: Iterable[str]) -> str | None:
    """The choice to write in place of `word` without asking; None where a person must look."""
    correction = nearest(word, choices, sure=True)
    long_enough = len(word) >= _SHORTEST_CORRECTED or (
        correction and _fold(word) == _fold(correction)
    )
    return correction if long_enough else None


def _fold(word: str) -> str:
    return word.lower().replace("-", "_")


def quote_list(words: Sequence[str]) -> str:
    """`a`, `b` and 3 more."""
    shown = ", ".join(f"`{w}`" for w in words[:_SHOWN])
    more = len(words) - _SHOWN
    return f"{shown} and {more} more" if more > 0 else shown


def suggest(word: str, choices: Sequence[str]) -> str | None:
    """A help line: the nearest choice, else all of them; None where there is none."""
    if near := nearest(word, choices):
        return f"did you mean `{near}`?"
    if not choices:
        return None
    return f"known: {quote_list(choices)}"


def file_size(count: int) -> str:
    """A number of bytes for people: 512 B, 1.5 KiB, 34.0 MiB."""
    size = float(count)
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"
