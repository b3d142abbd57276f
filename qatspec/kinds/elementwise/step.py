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


def divide(exact: ExactDtypes, op: Op) -> Step:
    a, dtype = op.attrs, exact.holder(op.output)
    multiplier, unit = float(a["multiplier"]), float(1 << a["shift"])
    above, below = (exact.interval(name) for name in op.inputs)
    near = above.magnitude * abs(a["multiplier"]) + (max(below.magnitude, 1) << a["shift"]) < NEAR
    half = 0.5 if a["rounding"] == "half_up" else 0.0
    positive = bool((below.low > 0).all())
    # what is not below 0 is truncated by a conversion to bytes
    truncates = positive and bool((above.low >= 0).all()) and dtype in BYTES

    def by_inverse(x: Tensor, y: Tensor) -> Tensor:
        inverse = (y if positive else y.masked_fill(y == 0, 1)).double().reciprocal_()
        start = (inverse if positive else inverse.abs()).mul(0.25 / unit).add_(half)
        quotient = (x.double() * inverse.mul_(multiplier / unit)).add_(start)
        quotient.clamp_(a["low"], a["high"])
        return (quotient if truncates else quotient.floor_()).to(dtype)

    def step(x: Tensor, y: Tensor) -> Tensor:
        below = y.to(torch.float64).masked_fill(y == 0, 1.0) * unit
        quotient = rounded(x.to(torch.float64).mul_(multiplier) / below, a["rounding"])
        return quotient.clamp_(a["low"], a["high"]).to(dtype)

    return by_inverse if near and a["rounding"] != "half_even" else step
