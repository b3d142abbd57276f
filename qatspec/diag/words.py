"""The words of messages: did-you-mean and lists of choices, said the same way everywhere."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

_SHOWN = 8


def nearest(word: str, choices: Iterable[str], *, sure: bool = False) -> str | None:
    """The choice that `word` most likely means, or None where that would be a guess; sure: only
    where it differs by a slip of the fingers."""
    by_folded = {c.lower().replace("-", "_"): c for c in choices}
    folded = word.lower().replace("-", "_")
    if folded in by_folded:
        return by_folded[folded]
    cutoff = 0.84 if sure else 0.6 if len(folded) > 3 else 0.5
    found = difflib.get_close_matches(folded, list(by_folded), n=1, cutoff=cutoff)
    return by_folded[found[0]] if found else None


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
