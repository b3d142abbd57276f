"""Division of one tensor by another."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from qatspec.ir import EXACT64, RANGE
from qatspec.kinds import MAX_SHIFT
from qatspec.program.lowered import Sum, Term

if TYPE_CHECKING:
    from qatspec.lower.context import Lowering


def quotient(lowering: Lowering, x: Term, y: Term) -> Sum:
    """x / y of one scale each, rounded once to the grid of what quantizes this node."""
    target = lowering.target()
    if target is None:
        lowering.fail(
            "nothing quantizes its result, and a quotient has no int32 tail",
            "set quantize_output: true, or move this op into `predict`",
            "QS703",
        )
    above, below = (lowering.builder.ranges[term.value].magnitude for term in (x, y))
    ratio = x.step / (y.step * float(np.float32(target.scale)))
    arithmetic = lowering.builder.arithmetic
    multiplier, shift = _multiplier(ratio, above, below, arithmetic.multiplier_bits)
    low, high = RANGE[target.dtype]
    return lowering.emit(
        "divide",
        (x.value, y.value),
        target.scale,
        dtype=target.dtype,
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
