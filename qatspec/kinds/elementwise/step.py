"""The executor's steps of elementwise arithmetic."""

from __future__ import annotations

import torch
from torch import Tensor

from qatspec.ir import RANGE, Op
from qatspec.kinds.exact import ExactDtypes, Step, rounded


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
    return lambda x: x.to(dtype) * w + b


def divide(exact: ExactDtypes, op: Op) -> Step:
    a, dtype = op.attrs, exact.holder(op.output)
    multiplier, unit = float(a["multiplier"]), float(1 << a["shift"])

    def step(x: Tensor, y: Tensor) -> Tensor:
        below = y.to(torch.float64).masked_fill(y == 0, 1.0) * unit
        quotient = rounded(x.to(torch.float64).mul_(multiplier) / below, a["rounding"])
        return quotient.clamp_(a["low"], a["high"]).to(dtype)

    return step
