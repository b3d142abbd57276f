"""The executor's steps of elementwise arithmetic."""

from __future__ import annotations

import torch
from torch import Tensor

from qatspec.ir import RANGE, Op
from qatspec.kinds.exact import BYTES, NEAR, ExactDtypes, Step, rounded


def mul(exact: ExactDtypes, op: Op) -> Step:
    dtype = exact.float_dtype(op.output)
    return lambda x, y: x.to(dtype) * y.to(dtype)


def clamp(exact: ExactDtypes, op: Op) -> Step:
    dtype = exact.holder(op.output)
    lowest, highest = RANGE[exact.dtype(op.output)]
    low, high = max(op.attrs["low"], lowest), min(op.attrs["high"], highest)
    return lambda x: x.clamp(low, high).to(dtype)


def affine(exact: ExactDtypes, op: Op) -> Step:
    dtype, rank = exact.float_dtype(op.output), len(exact.shape(op.inputs[0])) + 1
    along = [-1 if d == op.attrs["axis"] else 1 for d in range(rank)]
    w, b = (exact.const(name, dtype).reshape(along) for name in op.inputs[1:])
    if bool((w == 1).all()) and not b.any():
        return lambda x: x.to(dtype)
    return lambda x: x.to(dtype) * w + b


def inverse_of_quotient(exact: ExactDtypes, op: Op) -> tuple[float, float, float] | None:
    """a, b and c with which the quotient of a `divide` is the floor of x (1 / y) a + |1 / y| b + c;
    None where that is not proven."""
    a = op.attrs
    above, below = (exact.interval(name) for name in op.inputs)
    reach = above.magnitude * abs(a["multiplier"]) + (max(below.magnitude, 1) << a["shift"])
    if reach >= NEAR or a["rounding"] == "half_even":
        return None
    unit = float(1 << a["shift"])
    return a["multiplier"] / unit, 0.25 / unit, 0.5 if a["rounding"] == "half_up" else 0.0


def divide(exact: ExactDtypes, op: Op) -> Step:
    a, dtype = op.attrs, exact.holder(op.output)
    multiplier, unit = float(a["multiplier"]), float(1 << a["shift"])
    above, below = (exact.interval(name) for name in op.inputs)
    positive = bool((below.low > 0).all())
    # what is not below 0 is truncated by a conversion to bytes
    truncates = positive and bool((above.low >= 0).all()) and dtype in BYTES
    near = inverse_of_quotient(exact, op)

    def step(x: Tensor, y: Tensor) -> Tensor:
        below = y.to(torch.float64).masked_fill(y == 0, 1.0) * unit
        quotient = rounded(x.to(torch.float64).mul_(multiplier) / below, a["rounding"])
        return quotient.clamp_(a["low"], a["high"]).to(dtype)

    if near is None:
        return step
    factor, quarter, half = near

    def by_inverse(x: Tensor, y: Tensor) -> Tensor:
        inverse = (y if positive else y.masked_fill(y == 0, 1)).double().reciprocal_()
        start = (inverse if positive else inverse.abs()).mul(quarter).add_(half)
        quotient = (x.double() * inverse.mul_(factor)).add_(start)
        quotient.clamp_(a["low"], a["high"])
        return (quotient if truncates else quotient.floor_()).to(dtype)

    return by_inverse
