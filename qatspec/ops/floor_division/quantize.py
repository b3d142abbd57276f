"""Division of integers that rounds down, in integers: rows from indices."""

from __future__ import annotations

import numpy as np
from torch import fx

from qatspec.graph.context import GraphContext
from qatspec.kinds import MAX_SHIFT
from qatspec.lowering import INTEGERS, Lowering, ScaledInts, pending
from qatspec.ops.floor_division.calls import FloorDivide
from qatspec.types import Annotation, Float


def annotate(node: fx.Node, context: GraphContext) -> Annotation:
    """Integers have no scale to observe. The floor of a real quotient has no integer form."""
    call = context.call(node, FloorDivide)
    if any(context.is_float_tensor(x) for x in (node, call.x, call.other)):
        reason = "floor division of real numbers has no integer form"
        return Annotation(output=Float(reason), inputs=())
    return Annotation(inputs=())


def lower(node: fx.Node, lowering: Lowering) -> ScaledInts:
    """floor(x / c) = floor(x * m / 2^s)."""
    call = lowering.context.call(node, FloorDivide)
    x = lowering.single_term(call.x)
    divisor = lowering.constant(call.other)
    if lowering.context.is_float_tensor(node) or not isinstance(divisor, int) or divisor < 1:
        lowering.fail(
            "only integers are divided so, by a positive Python integer",
            "write the divisor as a number, or move this op into `predict`",
        )
    reach = lowering.builder.ranges[x.value].merged()
    low, high = int(reach.low[0]), int(reach.high[0])
    factors = reciprocal(divisor, low, high)
    if factors is None:
        lowering.fail(
            f"no multiplier divides every integer of [{low}, {high}] by {divisor}",
            "divide by a power of two, or what is never negative",
        )
    return lowering.requant(
        pending(x),
        [np.array(factors[:1], np.int64)],
        np.array(factors[1:], np.int64),
        INTEGERS,
        axis=1,
        rounding="floor",
        low=low // divisor,
        high=high // divisor,
    )


def reciprocal(divisor: int, low: int, high: int) -> tuple[int, int] | None:
    """(m, s) with floor(x * m / 2^s) = floor(x / divisor) for every integer low <= x <= high, the
    smallest s; None where there is none.

    With m = ceil(2^s / divisor) and e = m * divisor - 2^s, x * m / 2^s exceeds x / divisor by
    x * e / (divisor * 2^s). It stays below the next integer while x * e < 2^s, since x / divisor
    is at least 1 / divisor below it; of a negative x it must not fall short: e = 0 (Granlund and
    Montgomery, Division by Invariant Integers using Multiplication, 1994).
    """
    for shift in range(MAX_SHIFT + 1):
        multiplier = -(-(1 << shift) // divisor)
        excess = multiplier * divisor - (1 << shift)
        if high * excess < 1 << shift and (low >= 0 or excess == 0):
            return multiplier, shift
    return None
