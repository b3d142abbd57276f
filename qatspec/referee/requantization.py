"""The referee of requantizations: int64, and float32 where the form says so."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Attrs = Mapping[str, Any]
Ints = NDArray[np.int64]


def requant(a: Attrs, *operands: Ints) -> Ints:
    """Round and clamp a sum of terms, each times its multiplier."""
    terms, ndim = len(operands) // 2, operands[0].ndim

    def along(c: Ints) -> Ints:
        return c.reshape([-1 if d == a["axis"] else 1 for d in range(ndim)]) if ndim > 1 else c

    constants = [along(c) for c in operands[terms:]]
    rounded = _FORMS[a.get("form", "single")](a, operands[:terms], constants[:-1], constants[-1])
    return np.clip(rounded, a["low"], a["high"])


def _single(a: Attrs, xs: Sequence[Ints], ms: Sequence[Ints], shift: Ints) -> Ints:
    total = sum(x * m for x, m in zip(xs, ms, strict=True))
    return shift_right(np.asarray(total), shift, a["rounding"])


def shift_right(v: Ints, shift: Ints, rounding: str) -> Ints:
    """v / 2^shift, rounded to an integer. int64 in, int64 out."""
    floor = v >> shift
    if rounding == "floor":
        return floor
    twice = (v - (floor << shift)) << 1
    one = np.int64(1) << shift
    tie_up = (floor & 1 == 1) if rounding == "half_even" else True
    up = (twice > one) | ((twice == one) & tie_up)
    return np.asarray(floor + (up & (shift > 0)), np.int64)


def _double_high(a: Attrs, xs: Sequence[Ints], ms: Sequence[Ints], shift: Ints) -> Ints:
    """gemmlowp: SaturatingRoundingDoublingHighMul and RoundingDivideByPOT."""
    lifted = [x << np.int64(a.get("lift", 0)) for x in xs]
    if len(xs) == 1:
        return _multiplied(lifted[0], ms[0], shift)
    shifts = [np.int64(s) for s in a["term_shifts"]]
    terms = [_multiplied(x, m, s) for x, m, s in zip(lifted, ms, shifts, strict=True)]
    return _multiplied(np.asarray(sum(terms)), np.int64(a["total"]), shift)


def _multiplied(x: Ints, m: Any, shift: Any) -> Ints:
    """MultiplyByQuantizedMultiplier: a left shift before, or a right shift behind."""
    product = (x << np.maximum(-shift, 0)) * m
    nudged = product + np.where(product >= 0, 1 << 30, 1 - (1 << 30))
    high = np.sign(nudged) * (np.abs(nudged) // (1 << 31))  # a division that truncates
    right = np.maximum(shift, 0)
    mask = (np.int64(1) << right) - 1
    remainder, threshold = high & mask, (mask >> 1) + (high < 0)
    return np.asarray((high >> right) + (remainder > threshold), np.int64)


def _float32(a: Attrs, xs: Sequence[Ints], ms: Sequence[Ints], shift: Ints) -> Ints:
    """A product of two float32, rounded to float32 and then to an integer, ties to even."""
    (x,), (m,) = xs, ms
    factor = np.ldexp(m.astype(np.float32), -shift.astype(np.int32))  # exact: m has 24 bits
    product = x.astype(np.float32) * factor
    return np.asarray(np.clip(np.rint(product), a["low"], a["high"]), np.int64)


_FORMS: dict[str, Callable[[Attrs, Sequence[Ints], Sequence[Ints], Ints], Ints]] = {
    "single": _single,
    "double_high": _double_high,
    "float32": _float32,
}
