"""Results of ops on tensors of integers, which have scale 1."""

from __future__ import annotations

import math

import numpy as np

from qatspec.diag.codes import QS704
from qatspec.ir import RANGE
from qatspec.lowering import INTEGERS, Lowering, PendingSum, ScaledInts


def as_int32(x: PendingSum, lowering: Lowering) -> ScaledInts:
    """`x` as one int32 term of scale 1, exactly: multiples of integers by integers. Fails where it
    may need more bits."""
    first = x.terms[0]
    if len(x.terms) == 1 and not x.bounded and first.axis is None and first.step == 1:
        return first
    if any((t.scale != np.rint(t.scale)).any() for t in x.terms):
        lowering.fail(
            "its integers are multiplied by something other than an integer", "multiply by integers"
        )
    low, high = 0, 0
    for term in x.terms:
        reach = lowering.builder.ranges[term.value].merged()
        ends = [int(s) * int(r[0]) for s in term.scale for r in (reach.low, reach.high)]
        low, high = low + min(ends), high + max(ends)
    least, most = RANGE[INTEGERS.dtype]
    if x.bounded:
        bounds = (max(x.low, least), min(x.high, most))
        low, high = (int(np.clip(end, math.ceil(bounds[0]), int(bounds[1]))) for end in (low, high))
    if low < least or high > most:
        lowering.fail(f"its integers may reach [{low}, {high}], int32 holds +-2^31", code=QS704)
    ms = [t.scale.astype(np.int64) for t in x.terms]
    return lowering.requant(
        x,
        ms,
        np.zeros(1, np.int64),
        INTEGERS,
        axis=lowering.scale_axis(x),
        rounding=lowering.builder.arithmetic.rounding,
        low=low,
        high=high,
    )
