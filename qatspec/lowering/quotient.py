"""Division of one tensor by another."""

from __future__ import annotations

import numpy as np

from qatspec.ir import EXACT64, RANGE
from qatspec.kinds import MAX_SHIFT
from qatspec.lowering.lowering import Lowering
from qatspec.lowering.pending import ScaledInts


def quotient(lowering: Lowering, x: ScaledInts, y: ScaledInts) -> ScaledInts:
    """Divide one tensor by another, with one rounding (rule: exact rounding).

    lowering  the state of lowering.
    x, y      tensors with one scale each, of shapes that broadcast.

    Returns x / y on the grid of what quantizes this node; a y of 0 counts as one step of its grid.
    Raises Unlowerable QS703 where nothing quantizes it.
    """
    grid = lowering.required_grid("a quotient")
    above, below = (lowering.builder.ranges[term.value].magnitude for term in (x, y))
    ratio = x.step / (y.step * float(np.float32(grid.scale)))
    arithmetic = lowering.builder.arithmetic
    multiplier, shift = _multiplier(ratio, above, below, arithmetic.multiplier_bits)
    low, high = RANGE[grid.dtype]
    return lowering.emit(
        "divide",
        (x.value, y.value),
        grid.scale,
        dtype=grid.dtype,
        multiplier=multiplier,
        shift=shift,
        rounding=arithmetic.rounding,
        low=low,
        high=high,
    )


def _multiplier(ratio: float, above: int, below: int, bits: int) -> tuple[int, int]:
    """`ratio` as multiplier / 2^shift: as many bits as the march has, and as stay below 2^51 on the
    way (`bounds`). What is too large saturates, as every quotient then does."""
    shift = int(np.clip(bits - np.frexp(ratio)[1], 0, MAX_SHIFT)) if ratio < 2.0**bits else 0

    def multiplier() -> int:
        return round(min(ratio * 2.0**shift, 2.0**MAX_SHIFT))

    def over() -> bool:
        return above * multiplier() + (below << shift) >= EXACT64 // 4

    while shift > 0 and over():
        shift -= 1
    limit = EXACT64 // (8 * max(above, 1))
    return min(multiplier(), limit), shift
