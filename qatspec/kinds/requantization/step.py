"""The executor's requantization: sum x * (m / 2^s), rounded and clamped, in float64.

Exact: |sum x_i m_i| + 2^(s-1) < 2^53 (proven by the kind's bound), so that every product, partial
sum and the half added to round half up is an integer below 2^53 times 2^-s, s <= 50, which float64
holds: neither order nor fused multiply-add changes it. floor and round (half to even) are exact on
float64.

Fast: memory is gone through once, in blocks whose float64 copy stays in the cache, with the channel
innermost (channels-last images), so that the multipliers are a vector that each row repeats; an
accumulator that nothing else reads is overwritten.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from qatspec.ir import Op
from qatspec.kinds.exact import ExactDtypes, Step
from qatspec.kinds.requantization import form_steps as steps
from qatspec.kinds.requantization.forms import form_of

#: Elements of a block, a thread: 1 MiB of float64.
BLOCK = 1 << 17
#: Elements of a row of multipliers: long enough that a row's own cost does not count.
ROW = 1 << 11


def requant(exact: ExactDtypes, op: Op) -> Step:
    """The step of a requant op."""
    if (form := form_of(op)) != "single":
        return steps.double_high(exact, op) if form == "double_high" else steps.float32(exact, op)
    terms, a = len(op.inputs) // 2, op.attrs
    dtype, rank = exact.holder(op.output), len(exact.shape(op.inputs[0])) + 1
    unit = torch.exp2(-exact.const(op.inputs[-1], torch.float64))
    ratios = [exact.const(m, torch.float64) * unit for m in op.inputs[terms : 2 * terms]]
    per_channel = any(ratio.numel() > 1 for ratio in ratios)
    channel = a["axis"] if per_channel else 1 if rank == 4 else rank - 1
    channels = exact.shape(op.inputs[0])[channel - 1] if per_channel else 1
    rows = [ratio.expand(channels).repeat(max(ROW // channels, 1)) for ratio in ratios]
    low, high, rounding = float(a["low"]), float(a["high"]), a["rounding"]
    overwrite = exact.may_overwrite(op.inputs[0]) and exact.holder(op.inputs[0]) == dtype

    def block(xs: Sequence[Tensor], out: Tensor, wide: Tensor) -> None:
        width = out.shape[-1]
        v = wide[0].copy_(xs[0]).mul_(rows[0][:width])
        for x, row in zip(xs[1:], rows[1:], strict=True):
            v.add_(wide[1].copy_(x).mul_(row[:width]))
        if rounding == "half_up":
            v.add_(0.5)
        v = v.round_() if rounding == "half_even" else v.floor_()
        out.copy_(v.clamp_(low, high))

    def step(*operands: Tensor) -> Tensor:
        plain = not per_channel and all(x.is_contiguous() for x in operands)
        inner = -1 if plain else channel  # the dim that is innermost in memory
        xs = [x.movedim(inner, -1).contiguous() for x in operands]
        out = xs[0] if overwrite else torch.empty(xs[0].shape, dtype=dtype)
        width = len(rows[0])
        height = max(BLOCK * torch.get_num_threads() // width, 1)
        size = min(height * width, out.numel())
        scratch = torch.empty(min(terms, 2), size, dtype=torch.float64)
        for parts in zip(*(_blocks(x.view(-1), width, height) for x in (*xs, out)), strict=True):
            shape = (len(scratch), *parts[0].shape)
            block(parts[:-1], parts[-1], scratch[:, : parts[0].numel()].view(shape))
        return out.movedim(-1, inner)

    return step


def _blocks(flat: Tensor, width: int, height: int) -> list[Tensor]:
    """`flat` in parts of at most (height, width), then what is left of a row."""
    filled = flat.numel() // width * width
    rows = flat[:filled].view(-1, width)
    parts = list(torch.split(rows, height)) if filled else []
    return parts if filled == flat.numel() else [*parts, flat[filled:]]
