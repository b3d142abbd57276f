"""Intervals of integers: what a value of a Program can hold."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qatspec.ir.data import RANGE

#: float64 (float32) holds every integer up to this exactly.
EXACT64 = 2**53
EXACT32 = 2**24


class Overflow(ValueError):
    """A sum can exceed its accumulator; the message states the bound."""


@dataclass(frozen=True, slots=True)
class Interval:
    """low <= value <= high. int64 of shape (1,), or (C,) per channel along `axis` (counted
    with the batch)."""

    low: np.ndarray
    high: np.ndarray
    axis: int = 1

    @property
    def magnitude(self) -> int:
        """The largest absolute value."""
        return int(max(abs(int(self.low.min())), abs(int(self.high.max()))))

    def merged(self) -> Interval:
        """One interval for all channels."""
        return Interval(self.low.min(keepdims=True), self.high.max(keepdims=True))


def interval(low: int, high: int) -> Interval:
    """The same bounds for every channel."""
    return Interval(np.array([low], np.int64), np.array([high], np.int64))


def within_int32(result: Interval) -> Interval:
    """Return `result`. Raises Overflow where it leaves int32."""
    low, high = RANGE["int32"]
    if result.low.min() < low or result.high.max() > high:
        raise Overflow(
            f"the accumulator may reach [{int(result.low.min())}, {int(result.high.max())}], "
            "int32 holds no more than +-2^31"
        )
    return result
