"""The executor's steps by kind of op, requantization apart: torch's float kernels on integers.

Images are kept channels last where a kernel gives them so: its convolutions need not turn them.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from qatspec.program import statistics_kernels
from qatspec.program.carriers import Build, Carriers, Step
from qatspec.program.interp import bilinear_taps, nearest_index
from qatspec.program.model import RANGE, Op
from qatspec.program.requant_kernel import requant

# -- sums of products --------------------------------------------------------------------------


def _accumulating(ex: Carriers, op: Op) -> tuple[torch.dtype, Tensor, Tensor | None]:
    carrier = ex.carrier(op.output)
    bias = ex.const(op.inputs[2], carrier) if len(op.inputs) == 3 else None
    return carrier, ex.const(op.inputs[1], carrier), bias


def _conv(ex: Carriers, op: Op) -> Step:
    """Two kernels of torch 2.13 and oneDNN 3.12 are kept away from, which read beyond their data:
    channels-last strides on an image of one channel, and padding by a kernel's reach or more."""
    carrier, w, b = _accumulating(ex, op)
    w = w.contiguous(memory_format=torch.channels_last)
    a = op.attrs
    top, left, bottom, right = a["padding"]
    stride, dilation, groups = tuple(a["stride"]), tuple(a["dilation"]), a["groups"]
    reach = [d * (k - 1) + 1 for k, d in zip(w.shape[2:], dilation, strict=True)]
    inside = (top, left) == (bottom, right) and top < reach[0] and left < reach[1]
    single = w.shape[1] * groups == 1

    def step(x: Tensor) -> Tensor:
        x = x.to(carrier)
        x = x.squeeze(1).unsqueeze(1) if single else x.contiguous(memory_format=torch.channels_last)
        if not inside:
            x = F.pad(x, (left, right, top, bottom))
        return F.conv2d(x, w, b, stride, (top, left) if inside else 0, dilation, groups)

    return step


def _conv_transpose(ex: Carriers, op: Op) -> Step:
    carrier, w, b = _accumulating(ex, op)
    a = op.attrs
    top, left, bottom, right = a["padding"]
    stride, dilation, extra = tuple(a["stride"]), tuple(a["dilation"]), tuple(a["output_padding"])

    def step(x: Tensor) -> Tensor:
        y = F.conv_transpose2d(x.to(carrier), w, b, stride, 0, extra, a["groups"], dilation)
        return y[:, :, top : y.shape[2] - bottom, left : y.shape[3] - right]

    return step


def _linear(ex: Carriers, op: Op) -> Step:
    carrier, w, b = _accumulating(ex, op)
    return lambda x: F.linear(x.to(carrier), w, b)


def _mul(ex: Carriers, op: Op) -> Step:
    carrier = ex.carrier(op.output)
    return lambda x, y: x.to(carrier) * y.to(carrier)


def _clamp(ex: Carriers, op: Op) -> Step:
    low, high = float(op.attrs["low"]), float(op.attrs["high"])
    return lambda x: x.clamp(low, high)


# -- pools and reductions ----------------------------------------------------------------------


def _padded(x: Tensor, padding: Sequence[int], value: float) -> Tensor:
    top, left, bottom, right = padding
    return F.pad(x, (left, right, top, bottom), value=value) if any(padding) else x


def _max_pool(ex: Carriers, op: Op) -> Step:
    a, lowest = op.attrs, float(RANGE[ex.dtype(op.output)][0])
    kernel, stride, dilation = tuple(a["kernel"]), tuple(a["stride"]), tuple(a["dilation"])
    return lambda x: F.max_pool2d(
        _padded(x, a["padding"], lowest), kernel, stride, dilation=dilation
    )


def _sum_pool(ex: Carriers, op: Op) -> Step:
    a, carrier = op.attrs, ex.carrier(op.output)
    kernel, stride = tuple(a["kernel"]), tuple(a["stride"])
    return lambda x: F.avg_pool2d(
        _padded(x.to(carrier), a["padding"], 0.0), kernel, stride, divisor_override=1
    )


def _reduce_sum(ex: Carriers, op: Op) -> Step:
    axes, keep, carrier = list(op.attrs["axes"]), op.attrs["keepdim"], ex.carrier(op.output)
    return lambda x: x.to(carrier).sum(axes, keepdim=keep)


def _reduce_max(ex: Carriers, op: Op) -> Step:
    axes, keep = list(op.attrs["axes"]), op.attrs["keepdim"]
    return lambda x: x.amax(axes, keepdim=keep)


# -- resizes -----------------------------------------------------------------------------------


def _resize_nearest(ex: Carriers, op: Op) -> Step:
    sizes = zip(ex.shape(op.inputs[0])[1:], op.attrs["size"], strict=True)
    rows, cols = (torch.from_numpy(nearest_index(s, o)) for s, o in sizes)

    def step(x: Tensor) -> Tensor:  # along rows of whole pixels
        x = x.movedim(1, 3)
        return x.index_select(1, rows).index_select(2, cols).movedim(3, 1)

    return step


def _resize_bilinear(ex: Carriers, op: Op) -> Step:
    a, carrier = op.attrs, ex.carrier(op.output)
    axes = []
    for axis, out in zip((1, 2), a["size"], strict=True):  # of images with the channel innermost
        size = ex.shape(op.inputs[0])[axis]
        low, high, w = bilinear_taps(size, out, a["align_corners"], a["bits"])
        weight = torch.from_numpy(w).to(carrier).reshape((-1, 1, 1) if axis == 1 else (-1, 1))
        axes.append((axis, torch.from_numpy(low), torch.from_numpy(high), weight))
    one = float(1 << a["bits"])

    def step(x: Tensor) -> Tensor:
        x = x.to(carrier).movedim(1, 3)
        for axis, low, high, w in axes:
            x = x.index_select(axis, low) * (one - w) + x.index_select(axis, high) * w
        return x.movedim(3, 1)

    return step


# -- moves -------------------------------------------------------------------------------------


def _concat(ex: Carriers, op: Op) -> Step:
    axis, carrier = op.attrs["axis"], ex.carrier(op.output)
    return lambda *xs: torch.cat([x.to(carrier) for x in xs], axis)


def _reshape(ex: Carriers, op: Op) -> Step:
    shape = tuple(op.attrs["shape"])
    return lambda x: x.reshape(x.shape[0], *shape)


def _transpose(ex: Carriers, op: Op) -> Step:
    perm = tuple(op.attrs["perm"])
    return lambda x: x.permute(perm)


def _slice(ex: Carriers, op: Op) -> Step:
    a = op.attrs
    at = (slice(None),) * a["axis"] + (slice(a["start"], a["stop"], a["step"]),)
    return lambda x: x[at]


def _pad(ex: Carriers, op: Op) -> Step:
    value = float(op.attrs["value"])
    return lambda x: _padded(x, op.attrs["padding"], value)


def _lut(ex: Carriers, op: Op) -> Step:
    table, lowest = ex.const(op.inputs[1], ex.carrier(op.output)), RANGE[ex.dtype(op.inputs[0])][0]
    return lambda x: statistics_kernels.looked_up(table, x - lowest)


#: By kind of op.
BUILD: dict[str, Build] = {
    "conv": _conv,
    "conv_transpose": _conv_transpose,
    "linear": _linear,
    "requant": requant,
    "mul": _mul,
    "clamp": _clamp,
    "max_pool": _max_pool,
    "sum_pool": _sum_pool,
    "reduce_sum": _reduce_sum,
    "reduce_max": _reduce_max,
    "resize_nearest": _resize_nearest,
    "resize_bilinear": _resize_bilinear,
    "concat": _concat,
    "reshape": _reshape,
    "transpose": _transpose,
    "slice": _slice,
    "pad": _pad,
    "lut": _lut,
    **statistics_kernels.BUILD,
}
