"""Which pixels a resize reads, and with which weights."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


def nearest_index(size: int, out: int) -> Ints:
    """Source index of each of `out` positions: floor(i * size / out)."""
    return np.arange(out, dtype=np.int64) * size // out


def bilinear_taps(size: int, out: int, align_corners: bool, bits: int) -> tuple[Ints, Ints, Ints]:
    """(lower index, upper index, weight of the upper in 2^-bits) of each output position.

    The source position is i * (size - 1) / (out - 1) with aligned corners, else
    max((i + 1/2) * size / out - 1/2, 0), as torch defines it; rounded half up to 2^-bits.
    """
    i = np.arange(out, dtype=np.int64)
    if align_corners:
        above, below = i * (size - 1), max(out - 1, 1)
    else:
        above, below = np.maximum((2 * i + 1) * size - out, 0), 2 * out
    position = ((above << (bits + 1)) + below) // (2 * below)
    low = position >> bits
    return low, np.minimum(low + 1, size - 1), position - (low << bits)
