"""Which pixels a resize reads, derived position by position in rational numbers.

Written separately from what the executor, ONNX and the handlers use, which this is compared with.
"""

from __future__ import annotations

from fractions import Fraction
from math import floor

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


def nearest(size: int, out: int) -> Ints:
    """(out,) index of the pixel that each position of the result takes, of `size` pixels."""
    return np.array([floor(Fraction(i * size, out)) for i in range(out)], np.int64)


def bilinear(size: int, out: int, align_corners: bool, bits: int) -> tuple[Ints, Ints, Ints]:
    """(lower pixel, upper pixel, weight of the upper in 2^-bits) of each position, (out,) each.

    torch defines the position in the input as i * (size - 1) / (out - 1) with aligned corners, and
    as (i + 1/2) * size / out - 1/2, but not below 0, without. It is rounded half up to 2^-bits.
    """
    lower, upper, weights = [], [], []
    for i in range(out):
        if align_corners:
            position = Fraction(i * (size - 1), out - 1) if out > 1 else Fraction(0)
        else:
            position = max(Fraction(2 * i + 1, 2) * size / out - Fraction(1, 2), Fraction(0))
        steps = floor(position * 2**bits + Fraction(1, 2))
        pixel, weight = divmod(steps, 2**bits)
        lower.append(pixel)
        upper.append(min(pixel + 1, size - 1))
        weights.append(weight)
    return np.array(lower, np.int64), np.array(upper, np.int64), np.array(weights, np.int64)
