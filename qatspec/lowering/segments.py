"""Tables over 16-bit integers in few entries (qatspec/adr/0125)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from qatspec.ir import STORAGE, DType
from qatspec.kinds.tables.segments import SEGMENT, SEGMENT_BITS, SEGMENTS, SHIFT_BITS
from qatspec.lowering.lowering import Lowering


def table(
    lowering: Lowering, suffix: str, dtype: DType, exact: np.ndarray, error: Any = 0.25
) -> tuple[Sequence[str], dict[str, Any]]:
    """The operands and attributes of an op that looks up in a table, behind its first operand.

    lowering  the state of lowering.
    suffix    of the names of constants.
    dtype     of the results.
    exact     float64, the real value of each entry, in integers of the result before rounding,
              within the range of `dtype`. 65536 of them come in segments where that takes less than
              three quarters of the bytes.
    error     how far an interpolated entry may be from the real one beyond the rounding of the
              entries between which it lies, in integers of the result, or in sixteenths of them
              where these are no int32: a number or one for each.
    """
    if len(exact) == SEGMENT * SEGMENTS:
        bits = 0 if dtype == "int32" else 8
        entries, words = in_segments(exact, bits, error)
        narrow = max(-entries.min(), entries.max()) < 1 << 15
        size = (2 if narrow else 4) * entries.size + 4 * words.size
        if 4 * size < 3 * exact.size * np.dtype(STORAGE[dtype]).itemsize:
            names: tuple[str, ...] = (
                lowering.const(suffix, "int16" if narrow else "int32", entries),
                lowering.const(f"{suffix}.segments", "int32", words),
            )
            return names, {"fraction_bits": bits} if bits else {}
    return (lowering.const(suffix, dtype, np.rint(exact)),), {}


def in_segments(exact: np.ndarray, fraction_bits: int, error: Any) -> tuple[np.ndarray, np.ndarray]:
    """(entries, words of the segments) as the kind `lut` defines them. Arguments as of `table`;
    fraction_bits: of the entries."""
    real = exact * 2.0**fraction_bits
    knots = np.rint(real).reshape(SEGMENTS, SEGMENT)
    ends = np.append(knots[1:, 0], knots[-1, -1])
    allowed = np.broadcast_to(0.5 + error * 2.0 ** (fraction_bits / 2), real.shape).reshape(
        knots.shape
    )
    shifts = np.zeros(SEGMENTS, np.int64)
    for shift in range(1, SEGMENT_BITS + 1):
        apart = 1 << shift
        here = knots[:, ::apart]
        after = np.concatenate([here[:, 1:], ends[:, None]], 1)
        between = here[..., None] + (after - here)[..., None] * (np.arange(apart) / apart)
        away = np.abs(between.reshape(knots.shape) - real.reshape(knots.shape))
        shifts[(away <= allowed).all(1)] = shift
    counts = SEGMENT >> shifts
    first = np.concatenate([[0], np.cumsum(counts)[:-1]])
    kept = [row[:: 1 << shift] for row, shift in zip(knots, shifts.tolist(), strict=True)]
    return np.append(np.concatenate(kept), ends[-1]), first << SHIFT_BITS | shifts
