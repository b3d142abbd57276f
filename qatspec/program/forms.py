"""Multipliers of the forms double_high and float32, from real scales.

Each is what the runtime that the form is of computes from the scales in its file:
QuantizeMultiplier of TFLite, the requantization scale and the multipliers of a sum of XNNPACK.
tests/unit/litert holds them to the runtime.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from qatspec.kinds import MAX_SHIFT
from qatspec.kinds.requantization.forms import FLOAT32, HIGH, MOST_FLOAT32, MOST_HIGH

#: What TFLite multiplies both operands of an addition by, 2^20, so that they keep fractions.
SUM_LIFT = 20
#: Bits of the larger multiplier of XNNPACK's addition, and fraction bits of its move from one 8-bit
#: grid to another.
SUM_BITS, MOVE_BITS = 21, 8
#: The scale of an operand of XNNPACK's addition, over that of its result.
FLOAT32_SUM = 2.0**-10, 2.0**8


def double_high(ratio: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(m, shift) int64 of float64 ratios that are not negative: ratio = m / 2^(31 + shift), m of 31
    bits, rounded half up. A ratio below 2^-32 is 0, one of 2^30 and more the largest."""
    fraction, exponent = np.frexp(ratio)
    m, shift = np.floor(fraction * HIGH + 0.5).astype(np.int64), -exponent.astype(np.int64)
    rounded_up = m == HIGH
    m, shift = np.where(rounded_up, m // 2, m), np.where(rounded_up, shift - 1, shift)
    tiny, huge = shift > MOST_HIGH, shift < -30
    m = np.where(tiny, 0, np.where(huge, HIGH - 1, m))
    return m, np.where(tiny, 0, np.where(huge, -30, shift))


def double_high_sum(
    scales: Sequence[float], out: float
) -> tuple[list[np.ndarray], np.ndarray, dict[str, Any]]:
    """(multipliers, shift, attributes) of a sum of two tensors on `scales`, on the scale `out`."""
    twice = 2.0 * max(scales)
    parts = [double_high(np.array([scale / twice])) for scale in scales]
    total, shift = double_high(np.array([twice / (2.0**SUM_LIFT * out)]))
    attrs = {
        "lift": SUM_LIFT,
        "term_shifts": tuple(int(shift_of_term[0]) for _, shift_of_term in parts),
        "total": int(total[0]),
    }
    return [m for m, _ in parts], shift, attrs


def float32(factor: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(m, shift) int64 of float32 factors: factor = m / 2^shift exactly, m of 24 bits."""
    fraction, exponent = np.frexp(factor.astype(np.float64))
    shift = np.clip(24 - exponent, 0, MOST_FLOAT32).astype(np.int64)
    m = np.clip(np.rint(np.ldexp(fraction, exponent + shift)), 1 - FLOAT32, FLOAT32 - 1)
    return np.where(np.abs(factor) < 2.0**-126, 0, m).astype(np.int64), shift


def in_float32_sum(scales: Sequence[float], out: np.float32) -> bool:
    """Return whether XNNPACK adds tensors on `scales`. TFLite adds others as the reference does."""
    low, high = FLOAT32_SUM
    return all(low <= abs(scale) / float(out) < high or scale < 0 for scale in scales)


def float32_sum(scales: Sequence[float], out: float) -> tuple[list[np.ndarray], np.ndarray]:
    """(multipliers, shift) of a sum of two tensors with one shift, half up: the larger multiplier
    has 21 bits."""
    ratios = [np.float32(scale) / np.float32(out) for scale in scales]
    shift = min(max(SUM_BITS - int(np.frexp(np.max(np.abs(ratios)))[1]), 0), MAX_SHIFT)
    return [np.array([round_even(r, shift)]) for r in ratios], np.array([shift])


def float32_move(scale: float, out: float) -> tuple[np.ndarray, np.ndarray]:
    """(multiplier, shift) of a move from one 8-bit grid to another, half up."""
    ratio = np.float32(scale) / np.float32(out)
    return np.array([round_even(ratio, MOVE_BITS)]), np.array([MOVE_BITS])


def round_even(ratio: np.floating, shift: int) -> int:
    """ratio * 2^shift to the nearest integer, ties to even."""
    return int(np.rint(np.ldexp(np.float64(ratio), shift)))
