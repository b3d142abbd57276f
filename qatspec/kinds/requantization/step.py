"""The executor's requantization: sum x * (m / 2^s), rounded and clamped.

In float64 it is exact: |sum x_i m_i| + 2^(s-1) < 2^53 (proven by the kind's bound), so that every
product, partial sum and the half added to round half up is an integer below 2^53 times 2^-s,
s <= 50, which float64 holds: neither order nor fused multiply-add changes it. floor and round (half
to even) are exact on float64. It is computed in int32 instead where the bound is below 2^31, and in
float32 where lines are proven (qatspec.kinds.requantization.lines): half the memory.

Fast: memory is gone through once, in blocks whose copy stays in the cache, with the channel
innermost (channels-last images), so that the multipliers are a vector that each row repeats; an
accumulator that nothing else reads is overwritten.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from math import prod
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from qatspec.ir import Op
from qatspec.kinds import loops
from qatspec.kinds.exact import BYTES, ExactDtypes, Step
from qatspec.kinds.requantization import form_steps as steps
from qatspec.kinds.requantization.forms import form_of
from qatspec.kinds.requantization.lines import proven_lines

#: Elements of a block, a thread: 1 MiB of float64.
BLOCK = 1 << 17
#: Elements of a tensor that is computed at once, and the least of its last dim.
AT_ONCE, SHORTEST = 1 << 18, 32
#: Elements of which a call costs more than passing over them once more.
FEW = 1 << 14
#: Elements of a row of multipliers: long enough that a row's own cost does not count.
ROW = 1 << 11


#: (operands, scratch tensors of their shape) -> integers in the first scratch tensor, not clamped.
Compute = Callable[[Sequence[Tensor], Tensor], Tensor]


class Line(NamedTuple):
    """round(sum x slope + start) in float64, half even or else floor. slopes and start: (1,) or
    (C,)."""

    slopes: list[np.ndarray]
    start: np.ndarray
    even: bool


class Body(NamedTuple):
    """How a block is computed. dtype: of the scratch tensors. line: the same for a loop."""

    dtype: torch.dtype
    compute: Compute
    line: Line | None = None


@dataclass(frozen=True)
class Along:
    """Where constants of one entry a channel lie. channel: the dim, None: one entry for all.
    count: channels there."""

    channel: int | None
    count: int

    def row(self, constant: Tensor) -> Tensor:
        """The constant as long as a row of memory with the channel innermost."""
        return constant.expand(self.count).repeat(max(ROW // self.count, 1))


def requant(exact: ExactDtypes, op: Op) -> Step:
    """The step of a requant op."""
    if (form := form_of(op)) != "single":
        return steps.double_high(exact, op) if form == "double_high" else steps.float32(exact, op)
    a, terms = op.attrs, len(op.inputs) // 2
    constants = [exact.array(name) for name in op.inputs[terms:]]
    shape = exact.shape(op.inputs[0])
    per_channel = any(constant.size > 1 for constant in constants)
    along = Along(a["axis"], shape[a["axis"] - 1]) if per_channel else Along(None, 1)
    dtype = exact.holder(op.output)
    overwrite = exact.may_overwrite(op.inputs[0]) and exact.holder(op.inputs[0]) == dtype
    width = along.count if per_channel else (1, *shape)[-1]
    body = None
    if not _takes_loop(terms, dtype, width, prod(shape)):
        body = _in_int32(exact, op, constants, along) or _in_float32(exact, op, constants, along)
    if body is None:
        body = in_float64(constants[:-1], constants[-1], along, a["rounding"])
    return requantizer(body, along, (a["low"], a["high"]), dtype, len(shape) + 1, overwrite)


def line_of(exact: ExactDtypes, op: Op) -> Line:
    """A requantization of the form `single` in float64."""
    constants = [exact.array(name) for name in op.inputs[len(op.inputs) // 2 :]]
    return _line(constants[:-1], constants[-1], op.attrs["rounding"])


def _line(
    multipliers: Sequence[np.ndarray],
    shift: np.ndarray,
    rounding: str,
    bias: Sequence[np.ndarray] = (),
) -> Line:
    unit = np.exp2(-shift.astype(np.float64))
    slopes = [m.astype(np.float64) * unit for m in multipliers]
    start = np.array([0.5 if rounding == "half_up" else 0.0])
    for slope, b in zip(slopes, bias, strict=False):
        start = start + slope * b.astype(np.float64)
    return Line(slopes, start, rounding == "half_even")


def _takes_loop(terms: int, dtype: torch.dtype, width: int, elements: int) -> bool:
    """Whether a requantization to `dtype` is a loop of numba's. width: of a row."""
    few = terms < 3 and dtype in BYTES and width >= SHORTEST
    return few and elements >= loops.LEAST and loops.installed()


def _summed(
    xs: Sequence[Tensor], rows: Sequence[Tensor], wide: Tensor, start: Tensor | None
) -> Tensor:
    """The row `start` and each operand by its row of multipliers, added in the dtype of the scratch
    tensors."""
    width = xs[0].shape[-1]
    v, row = wide[0].copy_(xs[0]), rows[0][:width]
    if start is None:
        v.mul_(row)
    else:
        torch.addcmul(start[:width], v, row, out=v)
    for x, row in zip(xs[1:], rows[1:], strict=True):
        v.addcmul_(wide[1].copy_(x), row[:width])
    return v


def in_float64(
    multipliers: Sequence[np.ndarray],
    shift: np.ndarray,
    along: Along,
    rounding: str,
    bias: Sequence[np.ndarray] = (),
) -> Body:
    """Exact for every op. multipliers and shift: int64 (1,) or (C,). bias: integers that are still
    to be added to each operand, where every sum with them stays below 2^53 / 2^shift."""
    line = _line(multipliers, shift, rounding, bias)
    rows = [along.row(torch.from_numpy(slope)) for slope in line.slopes]
    start = along.row(torch.from_numpy(line.start)) if line.start.any() else None

    def compute(xs: Sequence[Tensor], wide: Tensor) -> Tensor:
        v = _summed(xs, rows, wide, start)
        return v.round_() if line.even else v.floor_()

    return Body(torch.float64, compute, line)


def _in_int32(exact: ExactDtypes, op: Op, constants: list[np.ndarray], along: Along) -> Body | None:
    """Several bytes whose sum, with the half that rounds it, int32 holds; else None."""
    *multipliers, shift = constants
    operands, rounding = op.inputs[: len(multipliers)], op.attrs["rounding"]
    if any(exact.holder(name) not in BYTES for name in operands):
        return None
    reach = [  # in Python's integers, which do not overflow
        exact.interval(name).magnitude * int(np.abs(m).max())
        for name, m in zip(operands, multipliers, strict=True)
    ]
    half = (np.int64(1) << shift) >> 1
    if len(operands) < 2 or shift.max() > 30 or sum(reach) + int(half.max()) >= 1 << 31:
        return None
    if rounding == "half_even":
        return None
    rows = [along.row(torch.from_numpy(m).int()) for m in multipliers]
    halves, shifts = (along.row(torch.from_numpy(np.array(c)).int()) for c in (half, shift))

    start = halves if rounding == "half_up" else None

    def compute(xs: Sequence[Tensor], wide: Tensor) -> Tensor:
        v = _summed(xs, rows, wide, start)
        return v.bitwise_right_shift_(shifts[: v.shape[-1]])

    return Body(torch.int32, compute)


def _in_float32(
    exact: ExactDtypes, op: Op, constants: list[np.ndarray], along: Along
) -> Body | None:
    """One term that float32 holds, to bytes, where a line is proven for each channel; else None."""
    a, small = op.attrs, exact.float_dtype(op.inputs[0]) == torch.float32
    if len(constants) != 2 or not small or exact.holder(op.output) not in BYTES:
        return None
    m, shift = (np.broadcast_to(constant, (along.count,)) for constant in constants)
    reach = exact.interval(op.inputs[0])
    if reach.axis != a["axis"] or len(reach.low) != along.count:
        reach = reach.merged()
    lines = proven_lines(m, shift, a["rounding"], (a["low"], a["high"]), reach, np.zeros_like(m))
    if not lines.proven.all():
        return None
    slope, offset = (along.row(torch.from_numpy(part)) for part in (lines.slope, lines.offset))

    def compute(xs: Sequence[Tensor], wide: Tensor) -> Tensor:
        return _summed(xs, [slope], wide, offset).round_()

    return Body(torch.float32, compute)


def requantizer(
    body: Body,
    along: Along,
    limits: tuple[int, int],
    dtype: torch.dtype,
    rank: int,
    overwrite: bool,
) -> Step:
    """The step for tensors of `rank` dims to `dtype`; overwrite: the first one may be written to,
    and has that dtype."""
    channel = along.channel or (1 if rank == 4 else rank - 1)
    low, high = limits
    width = len(along.row(torch.zeros(1)))
    line = body.line

    @cache
    def constants(length: int) -> tuple[Any, ...]:
        """Of rows of that length, for a loop."""
        assert line is not None
        parts = (np.broadcast_to(part, (length,)) for part in (*line.slopes, line.start))
        ends = float(low), float(high), line.even
        return (*(np.ascontiguousarray(part) for part in parts), *ends)

    def step(*operands: Tensor) -> Tensor:
        plain = along.channel is None and all(x.is_contiguous() for x in operands)
        inner = -1 if plain else channel  # the dim that is innermost in memory
        last = inner in (-1, rank - 1)
        xs = [x if last else x.movedim(inner, -1) for x in operands]
        if line and _takes_loop(len(xs), dtype, xs[0].shape[-1], xs[0].numel()):
            loop = loops.requantize_one if len(xs) == 1 else loops.requantize_two
            result = loops.over_rows(loop, xs, constants(xs[0].shape[-1]), dtype)
            return result if last else result.movedim(-1, inner)
        if not overwrite and _at_once(xs[0], along, width):
            wide = torch.empty(min(len(xs), 2), *xs[0].shape, dtype=body.dtype)
            result = _as(body.compute(xs, wide).clamp_(low, high), dtype)
            return result if last else result.movedim(-1, inner)
        xs = [x.contiguous() for x in xs]
        out = xs[0] if overwrite else torch.empty(xs[0].shape, dtype=dtype)
        height = max(BLOCK * torch.get_num_threads() // width, 1)
        size = min(height * width, out.numel())
        scratch = torch.empty(min(len(xs), 2), size, dtype=body.dtype)
        for parts in zip(*(_blocks(x.view(-1), width, height) for x in (*xs, out)), strict=True):
            shape = (len(scratch), *parts[0].shape)
            wide = scratch[:, : parts[0].numel()].view(shape)
            _write(body.compute(parts[:-1], wide).clamp_(low, high), parts[-1])
        return out.movedim(-1, inner)

    return step


def _at_once(x: Tensor, along: Along, width: int) -> bool:
    """Whether a tensor is small, and its last dim as long as the multipliers are, so that blocks
    would cost more than they save."""
    length = x.shape[-1]
    fits = length == along.count if along.count > 1 else length <= width
    return fits and x.numel() <= (AT_ONCE if length >= SHORTEST else FEW)


def _as(v: Tensor, dtype: torch.dtype) -> Tensor:
    """Integers in a tensor of a dtype that holds them."""
    if dtype != torch.uint8 or v.numel() <= FEW:
        return v.to(dtype)
    out = torch.empty(v.shape, dtype=dtype)
    _write(v, out)
    return out


def _write(v: Tensor, out: Tensor) -> None:
    """Copy integers that the dtype of `out` holds. Conversions to int8 are vectorised, those to
    uint8 are not."""
    if out.dtype == torch.uint8 and v.dtype != torch.uint8:
        out.view(torch.int8).copy_(v.sub_(128))
        out.bitwise_xor_(128)
    else:
        out.copy_(v)


def _blocks(flat: Tensor, width: int, height: int) -> list[Tensor]:
    """`flat` in parts of at most (height, width), then what is left of a row."""
    filled = flat.numel() // width * width
    rows = flat[:filled].view(-1, width)
    parts = list(torch.split(rows, height)) if filled else []
    return parts if filled == flat.numel() else [*parts, flat[filled:]]
