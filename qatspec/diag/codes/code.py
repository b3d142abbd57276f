"""The record of one diagnostic code."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Code:
    """A code is never reused. `page` is Markdown: what happened, why it matters, how to mend it."""

    id: str
    title: str
    page: str
