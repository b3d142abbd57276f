"""The executor's requantizations of the forms double_high and float32."""

from __future__ import annotations

import torch
from torch import Tensor

from qatspec.ir import Op
from qatspec.kinds.exact import ExactDtypes, Step


def _along(exact: ExactDtypes, op: Op, constant: Tensor) -> Tensor:
    """A constant of a channel each, along the op's axis."""
    rank = len(exact.shape(op.inputs[0])) + 1
    shape = [-1 if d == op.attrs["axis"] else 1 for d in range(1, rank)]
    return constant.reshape(shape) if constant.numel() > 1 else constant


def float32(exact: ExactDtypes, op: Op) -> Step:
    """A product in float32, in place of its operand's copy. An accumulator beyond 2^24 comes as
    float64 and is rounded to float32 as an int32 is."""
    m, shift = (exact.const(name, torch.float64) for name in op.inputs[1:])
    factor = _along(exact, op, (m * torch.exp2(-shift)).to(torch.float32))
    low, high, dtype = float(op.attrs["low"]), float(op.attrs["high"]), exact.holder(op.output)

    def step(x: Tensor) -> Tensor:
        return (x.to(torch.float32) * factor).round_().clamp_(low, high).to(dtype)

    return step


def double_high(exact: ExactDtypes, op: Op) -> Step:
    """Products in int64. (x * m + 2^30) >> 31 is the doubling high multiplication; of a right shift
    that rounds half away from zero, numbers below zero get one less than half."""
    a, terms = op.attrs, len(op.inputs) // 2
    multipliers = [exact.const(name, torch.int64) for name in op.inputs[terms : 2 * terms]]
    last = exact.const(op.inputs[-1], torch.int64)
    lift, dtype = int(a.get("lift", 0)), exact.holder(op.output)

    def scale(m: Tensor, shift: Tensor, left: int) -> Step:
        factor = _along(exact, op, m << (left + (-shift).clamp(min=0)))
        right = _along(exact, op, shift.clamp(min=0))
        half = (torch.ones_like(right) << right) >> 1

        def scaled(x: Tensor) -> Tensor:
            high = (x * factor).add_(1 << 30).bitwise_right_shift_(31)
            return high.add_(half).sub_(((high < half) & (right > 0)).long()) >> right

        return scaled

    if terms == 1:
        only = scale(multipliers[0], last, lift)
        return lambda x: only(x.long()).clamp_(a["low"], a["high"]).to(dtype)
    shifts = [torch.tensor([of_term]) for of_term in a["term_shifts"]]
    parts = [scale(m, of_term, lift) for m, of_term in zip(multipliers, shifts, strict=True)]
    total = scale(torch.tensor([a["total"]]), last, 0)

    def step(*operands: Tensor) -> Tensor:
        summed = sum(part(x.long()) for part, x in zip(parts, operands, strict=True))
        return total(torch.as_tensor(summed)).clamp_(a["low"], a["high"]).to(dtype)

    return step
