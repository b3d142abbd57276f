"""A sum of products and the requantization behind it in one step: one kernel of bytes where lines
in float32 are proven to give the exact integers (qatspec.kinds.requantization.lines), and otherwise
the kernel's sums in int32, which the requantization reads as they are.

Where no kernel gives int32, channels that are not proven are computed a second time, with their
sums, and put over the kernel's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from qatspec.ir import EXACT32, EXACT64, RANGE, Interval, Op
from qatspec.kinds.exact import BYTES, ExactDtypes, Step
from qatspec.kinds.products.bytes import (
    ByteConv,
    ByteLinear,
    Rounded,
    convs_round_once,
    linears_round_once,
)
from qatspec.kinds.products.step import conv_step, geometry_of, int32_sums
from qatspec.kinds.requantization.forms import form_of
from qatspec.kinds.requantization.lines import NEIGHBOURS, gates, proven_lines
from qatspec.kinds.requantization.step import (
    Along,
    in_float64,
    requant as requant_step,
    requantizer,
)

#: The largest share of channels that are computed twice.
MOST_TWICE = 0.4
#: Below this, a kernel's int32 sums do not overflow, whichever zero point it takes bytes with.
LARGEST_SUM = 1 << 29
#: How many slopes are tried on either side where sums in int32 are nearly as good.
FEW_NEIGHBOURS = 4


class _Channels(NamedTuple):
    """What is constant for each channel of a result: int64 (C,)."""

    multiplier: np.ndarray
    shift: np.ndarray
    bias: np.ndarray


def requantized(exact: ExactDtypes, op: Op, requant: Op) -> Step | None:
    """The step of products whose sums `requant` alone reads, with that requantization; None where
    two steps are as good or exactness is not proven. It takes the operands of `op`, then the others
    of `requant`."""
    if form_of(requant) != "single":
        return None
    if (sums := int32_sums(exact, op)) is None:
        return _in_one_kernel(exact, op, requant, MOST_TWICE)
    return _in_one_kernel(exact, op, requant, 0.0) or _of_int32(exact, op, requant, sums)


def _of_int32(exact: ExactDtypes, op: Op, requant: Op, sums: Step) -> Step | None:
    """`sums` without their bias, requantized."""
    terms = len(requant.inputs) // 2
    at = requant.inputs.index(op.output)
    if len(op.inputs) < 3:
        round_off = requant_step(exact, requant)
    elif (with_bias := _with_bias(exact, op, requant)) is None:
        return None
    else:
        round_off = with_bias
    if terms == 1:
        return lambda *operands: round_off(sums(*operands))
    count = 2 if op.kind == "matmul" else 1

    def step(*operands: Tensor) -> Tensor:
        others = list(operands[count:])
        others.insert(at, sums(*operands[:count]))
        return round_off(*others)

    return step


def _with_bias(exact: ExactDtypes, op: Op, requant: Op) -> Step | None:
    """The requantization of a linear layer's sums to which it adds the bias; None where float64
    does not hold every sum."""
    a, terms = requant.attrs, len(requant.inputs) // 2
    *multipliers, shift = (exact.array(name).astype(np.int64) for name in requant.inputs[terms:])
    at, rank = requant.inputs.index(op.output), len(exact.shape(op.output)) + 1
    per_channel = any(constant.size > 1 for constant in (*multipliers, shift))
    if per_channel and a["axis"] != rank - 1:
        return None
    bias = exact.array(op.inputs[2]).astype(np.int64)
    extra = [2 * np.abs(bias) if k == at else np.zeros(1) for k in range(terms)]
    reach = sum(
        (exact.interval(name).magnitude + more.astype(np.float64)) * np.abs(m)
        for name, more, m in zip(requant.inputs, extra, multipliers, strict=False)
    )
    if np.max(reach + np.exp2(shift - 1.0)) >= EXACT64 // 2:  # reach is rounded
        return None
    biases = [bias if k == at else np.zeros(1, np.int64) for k in range(terms)]
    along = Along(rank - 1, len(bias))
    body = in_float64(multipliers, shift, along, a["rounding"], biases)
    limits, dtype = (a["low"], a["high"]), exact.holder(requant.output)
    return requantizer(body, along, limits, dtype, rank, overwrite=False)


def _in_one_kernel(exact: ExactDtypes, op: Op, requant: Op, most_twice: float) -> Step | None:
    """A convolution or linear layer in a kernel that gives bytes. most_twice: the largest share of
    channels that may be computed a second time."""
    kinds = {"conv": convs_round_once, "linear": linears_round_once}
    if op.kind not in kinds or len(requant.inputs) != 3:
        return None
    dtype, channel = exact.holder(requant.output), 1 if op.kind == "conv" else -1
    bytes_only = all(exact.holder(name) in BYTES for name in (*op.inputs[:2], requant.output))
    if not bytes_only or not kinds[op.kind]():
        return None
    weight = exact.const(op.inputs[1], torch.int8)
    channels = _channels(exact, op, requant, len(weight))
    interval = exact.interval(op.output)
    limits = requant.attrs["low"], requant.attrs["high"]
    lines = proven_lines(
        channels.multiplier, channels.shift, requant.attrs["rounding"], limits, interval,
        channels.bias, NEIGHBOURS if most_twice else FEW_NEIGHBOURS,
    )  # fmt: skip
    others = np.flatnonzero(~lines.proven)
    small = interval.magnitude + np.abs(channels.bias).max() < EXACT32
    geometry = geometry_of(exact, op) if op.kind == "conv" else None
    if len(others) and not small and not _clamps_beyond_float32(channels, requant, interval):
        return None
    if len(others) > most_twice * len(weight):
        if small or not most_twice or (op.kind == "conv" and geometry is None):
            return None
        return _of_sums(exact, op, requant, channels, np.arange(len(weight)))
    full = RANGE[exact.dtype(requant.output)] == limits and exact.dtype(requant.output) != "int4"
    rounded = Rounded(torch.from_numpy(lines.slope), dtype, None if full else limits)
    offset = torch.from_numpy(lines.offset)
    if op.kind == "linear":
        step: Step = ByteLinear(weight, offset, rounded)
    else:
        if geometry is None:
            return None
        if len(others) and geometry.groups > 1:
            if geometry.groups != len(weight) or weight.shape[1] != 1:
                return None  # the inputs of some channels are not as simply picked
            if len(others) == 1:  # an image of one channel, see geometry_of: one more beside it
                others = np.sort([others[0], others[0] - 1 if others[0] else 1])
        step = conv_step(exact, op, ByteConv(weight, offset, *geometry, rounded))
    if not len(others):
        return step
    return _with_others(step, _of_sums(exact, op, requant, channels, others), others, channel)


def _clamps_beyond_float32(channels: _Channels, requant: Op, interval: Interval) -> bool:
    """Whether every sum that float32 does not hold is clamped, also where it is rounded to float32
    before or behind the addition of the bias: rounding never changes the order of two numbers."""
    m, shift, bias = channels
    low, high = requant.attrs["low"], requant.attrs["high"]
    if (m <= 0).any() or interval.magnitude + np.abs(bias).max() >= LARGEST_SUM:
        return False
    first = gates(m, shift, requant.attrs["rounding"], low, high)[:, [0, -1]]
    return bool(np.abs(first).max() + 2 * np.abs(bias).max() < EXACT32 - 1)


def _channels(exact: ExactDtypes, op: Op, requant: Op, count: int) -> _Channels:
    bias = exact.array(op.inputs[2]) if len(op.inputs) == 3 else np.zeros(1)
    constants = (*(exact.array(name) for name in requant.inputs[1:]), bias)
    return _Channels(*(np.broadcast_to(c.astype(np.int64), (count,)) for c in constants))


def _of_sums(
    exact: ExactDtypes, op: Op, requant: Op, channels: _Channels, others: np.ndarray
) -> Step:
    """The channels of `others` alone, by their sums in float32, which holds all that are not
    clamped."""
    a, bias = requant.attrs, torch.from_numpy(channels.bias[others]).float()
    weight = exact.const(op.inputs[1], torch.int8)[torch.from_numpy(others)]
    rank = len(exact.shape(op.output)) + 1
    along = Along(1 if op.kind == "conv" else rank - 1, len(others))
    body = in_float64([channels.multiplier[others]], channels.shift[others], along, a["rounding"])
    dtype = exact.holder(requant.output)
    round_off = requantizer(body, along, (a["low"], a["high"]), dtype, rank, overwrite=False)
    if op.kind == "linear":
        sums: Step = ByteLinear(weight, bias)
        return lambda x: round_off(sums(x))
    geometry = geometry_of(exact, op)
    assert geometry is not None
    if len(others) == len(channels.bias):
        every = conv_step(exact, op, ByteConv(weight, bias, *geometry))
        return lambda x: round_off(every(x))
    depthwise = geometry.groups > 1
    groups = len(others) if depthwise else 1
    conv = conv_step(exact, op, ByteConv(weight, bias, *geometry._replace(groups=groups)))
    picked = torch.from_numpy(others)

    def step(x: Tensor) -> Tensor:
        return round_off(conv(_picked(x, picked) if depthwise else x))

    return step


def _picked(x: Tensor, channels: Tensor) -> Tensor:
    """Some channels of images, innermost in memory."""
    return x.movedim(1, -1).contiguous().index_select(-1, channels).movedim(-1, 1)


def _with_others(step: Step, again: Step, others: np.ndarray, channel: int) -> Step:
    index = torch.from_numpy(others)
    write: Callable[..., Tensor] = torch.Tensor.index_copy_

    def both(x: Tensor) -> Tensor:
        y = step(x)
        write(y.movedim(channel, -1), -1, index, again(x).movedim(channel, -1))
        return y

    return both
