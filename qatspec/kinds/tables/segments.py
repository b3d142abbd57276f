"""Tables in segments: the entry for each of 65536 integers from a few entries, by interpolation."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from qatspec.ir import Op

#: A table in segments has this many, each for this many integers one after the other.
SEGMENT_BITS = 8
SEGMENT = 1 << SEGMENT_BITS
SEGMENTS = 65536 // SEGMENT
#: Low bits of a segment's word: the logarithm of how far its entries lie apart. The others are the
#: number of its first entry.
SHIFT_BITS = 4


def entries(op: Op, array: Callable[[Op, int], np.ndarray]) -> np.ndarray:
    """An entry for every integer that a table is read at, int64 where it is in segments.

    op     an op with a table, and perhaps segments, behind its first operand.
    array  (op, number of an operand) -> the constant.
    """
    if len(op.inputs) < 3:
        return array(op, 1)
    return expanded(array(op, 1), array(op, 2), op.attrs.get("fraction_bits", 0))


def expanded(table: np.ndarray, segments: np.ndarray, fraction_bits: int) -> np.ndarray:
    """The 65536 entries, int64, of a table in segments."""
    table, parts = table.astype(np.int64), []
    for word in segments.tolist():
        first, shift = word >> SHIFT_BITS, word & ((1 << SHIFT_BITS) - 1)
        count = SEGMENT >> shift
        here = table[first : first + count, None]
        between = here << shift
        if shift:
            following = table[first + 1 : first + 1 + count, None]
            between = between + (following - here) * np.arange(1 << shift)
        parts.append(
            between.reshape(-1) + (1 << (shift + fraction_bits) >> 1) >> (shift + fraction_bits)
        )
    return np.concatenate(parts)
