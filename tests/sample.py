"""Cases of which a run of the tests takes a sample, and `pytest --full` all of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import pytest


def sample(cases: Sequence[Any], every: int, start: int = 0) -> list[Any]:
    """`cases` for `pytest.mark.parametrize`: all but each `every`th one, counted from `start`, are
    marked `full`."""
    return [
        case if place % every == start else pytest.param(case, marks=pytest.mark.full)
        for place, case in enumerate(cases)
    ]


def without(cases: Iterable[str], *left_out: str) -> list[Any]:
    """`cases` for `pytest.mark.parametrize`: those in `left_out` are marked `full`."""
    known = list(cases)
    assert set(left_out) <= set(known), left_out
    return [
        pytest.param(case, marks=pytest.mark.full) if case in left_out else case for case in known
    ]
