"""Requantization by a line in float32, where it is proven to give the exact integers.

q(v) = clamp(round(v m / 2^s)) never falls as v grows. So it is known by its gates: for each k in
(low, high], the smallest integer v with q(v) >= k. What a kernel computes in float32, half even of
fl(fl(v a) + b), or of fl(v a + b) where it multiplies and adds with one rounding, never falls
either, since each of its steps is monotone. Both are equal for every v that can occur if they are
equal on both sides of each gate, v and v - 1. For a slope a, each side of each gate bounds the
offset b: fl(...) must lie above or below k - 1/2, or on it where half even rounds to the right
side. `a` is tried among the neighbours of float32(m / 2^s), and b is the middle of what all gates
allow, if anything is left.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from qatspec.ir import Interval

#: How many neighbours of the float32 nearest to m / 2^s are tried on either side.
NEIGHBOURS = 24


class Lines(NamedTuple):
    """A line a channel: slope and offset float32 (C,), and whether it is proven, bool (C,)."""

    slope: np.ndarray
    offset: np.ndarray
    proven: np.ndarray


def gates(m: np.ndarray, shift: np.ndarray, rounding: str, low: int, high: int) -> np.ndarray:
    """The smallest v with clamp(round(v m / 2^shift)) >= k, for k = low + 1 ... high.

    m, shift: int64 (C,), m > 0. Returns int64 (C, high - low).
    """
    k = np.arange(low + 1, high + 1, dtype=np.int64)
    least = k << shift[:, None]  # v m must be at least this: |k| <= 2^8 and shift <= 50
    if rounding != "floor":
        least = least - ((np.int64(1) << shift[:, None]) >> 1)
    if rounding == "half_even":
        least = least + ((k & 1 == 1) & (shift[:, None] > 0))
    return np.asarray(-(-least // m[:, None]))


def proven_lines(
    m: np.ndarray,
    shift: np.ndarray,
    rounding: str,
    limits: tuple[int, int],
    reach: Interval,
    bias: np.ndarray,
    neighbours: int = NEIGHBOURS,
) -> Lines:
    """The lines of v = x + bias for each channel, over x: a kernel adds the bias to its products by
    the offset.

    m, shift, bias: int64 (C,). limits: low and high of the result, within 8 bits. reach: what v can
    be. neighbours: how many slopes are tried on either side. A channel whose m is not positive is
    not proven.
    """
    low, high = limits
    slope = np.ldexp(m.astype(np.float64), -shift).astype(np.float32)
    lines = Lines(slope, np.zeros_like(slope), np.zeros(m.shape, bool))
    left = np.flatnonzero(m > 0)
    first = np.zeros((len(m), high - low), np.int64)
    first[left] = gates(m[left], shift[left], rounding, low, high)
    ends = (np.broadcast_to(end, m.shape)[:, None] for end in (reach.low, reach.high))
    above, below = _sides(first, bias[:, None], low, *ends)
    for step in sorted(range(-neighbours, neighbours + 1), key=abs):
        tried = (slope[left].view(np.int32) + np.int32(step)).view(np.float32)
        offset, proven = _offsets(tried, above[left], below[left], low)
        done = left[proven]
        lines.slope[done], lines.offset[done] = tried[proven], offset[proven]
        lines.proven[done] = True
        left = left[~proven]
        if not len(left):
            break
    return lines


def _sides(
    first: np.ndarray, bias: np.ndarray, low: int, lowest: np.ndarray, highest: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """float64 (C, gates): the smallest x that must come out above each gate, and the largest that
    must come out below; NaN where none can occur. In float32, as kernels convert sums."""
    above, below = np.maximum(first, lowest), np.minimum(first - 1, highest)
    sides = (above, first <= highest), (below, first - 1 >= lowest)
    above, below = (
        np.where(occurs, (v - bias).astype(np.float32), np.nan).astype(np.float64)
        for v, occurs in sides
    )
    return above, below


def _offsets(
    slope: np.ndarray, above: np.ndarray, below: np.ndarray, low: int
) -> tuple[np.ndarray, np.ndarray]:
    """float32 offsets (C,), and for which channels they are proven."""
    k = np.arange(low + 1, low + 1 + above.shape[1])
    border, even = (k - 0.5).astype(np.float32), k % 2 == 0
    to_upper = (np.nextafter(border, np.float32(np.inf)).astype(np.float64) - border) / 2
    to_lower = (border - np.nextafter(border, np.float32(-np.inf)).astype(np.float64)) / 2
    # half even rounds the border itself up to an even k, and down from an odd one
    least_above = border + np.where(even, -to_lower, to_upper)
    most_below = border + np.where(even, -to_lower, to_upper)
    least = least_above - _products(slope, above, np.fmin)
    most = most_below - _products(slope, below, np.fmax)
    slack = 2.0**-48 * (1 + np.fmax(np.abs(least), np.abs(most)))  # of float64 here
    least, most = least + slack, most - slack
    least = np.nanmax(least, axis=1, initial=-np.inf)
    most = np.nanmin(most, axis=1, initial=np.inf)
    bounded = np.clip(least, -(2.0**30), 2.0**30), np.clip(most, -(2.0**30), 2.0**30)
    offset = ((bounded[0] + bounded[1]) / 2).astype(np.float32)
    return offset, (offset > least) & (offset < most)


def _products(slope: np.ndarray, x: np.ndarray, worse: np.ufunc) -> np.ndarray:
    """x slope in float64, where it is exact, or rounded to float32, whichever is worse."""
    product = x * slope.astype(np.float64)[:, None]
    return np.asarray(worse(product, product.astype(np.float32)))
