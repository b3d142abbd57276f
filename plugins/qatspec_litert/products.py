"""Sums of products with the requantization behind them: convolutions, linear layers, products of
two tensors, and sums over windows and dims, whose weights are 1."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from qatspec.api import Op
from qatspec_litert import kernels
from qatspec_litert.images import padded_window
from qatspec_litert.moves import joined, moved, moved_axis
from qatspec_litert.writer import NotHeldError, Sums, Writer, file_shape

NONE, VALID = 0, 1


def deferred(writer: Writer, op: Op) -> None:
    """Keep sums until the requantization that reads them."""
    for name in writer.activations(op):
        writer.small(name)
    if op.kind in _CHECKS:
        _CHECKS[op.kind](writer, op)
    writer.sums[op.output] = Sums(op)


def requantized(writer: Writer, op: Op, sums: Sums) -> None:
    """Write sums and the requantization `op` as one operator."""
    if op.attrs.get("form") != writer.form or len(op.inputs) != 3 or op.attrs.get("lift", 0):
        raise NotHeldError(
            f"its sums are rounded by a requantization of the form {op.attrs.get('form', 'single')}"
            f": {writer.march} has {writer.form}"
        )
    count = max(writer.const(name).size for name in op.inputs[-2:])
    if count > 1 and channel_axis(writer, sums) != op.attrs["axis"]:
        raise NotHeldError(
            "it scales each channel of another dim than the one that has a scale each in TFLite",
            "multiply by one number, or let a fake-quant stand in front of the product",
        )
    writer.tensors[op.output] = _rounded(writer, sums, op)


def _rounded(writer: Writer, sums: Sums, op: Op) -> int:
    """The tensor of sums with the requantization `op`, and what moved them."""
    made = _WRITERS[sums.op.kind](writer, sums.op, op)
    for move in sums.moves:
        made = moved(writer, move, made)
    return made


def channel_axis(writer: Writer, sums: Sums) -> int | None:
    """The dim of sums whose channels may have a scale each, the batch counted."""
    op = sums.op
    axis = len(writer.shape(op.output)) if op.kind == "linear" else _CHANNELS.get(op.kind)
    if op.kind == "concat":
        parts = {channel_axis(writer, writer.sums[name]) for name in op.inputs}
        axis = parts.pop() if len(parts) == 1 else None
        axis = None if axis == op.attrs["axis"] else axis
    if op.kind == "reduce_sum" and len(writer.shape(op.inputs[0])) == 3:
        axis = 1 if sorted(op.attrs["axes"]) == [2, 3] else None
    for move in sums.moves:
        axis = None if axis is None else moved_axis(writer, move, axis)
    return axis


def _joined(writer: Writer, op: Op, requant: Op) -> int:
    return joined(writer, op, [_rounded(writer, writer.sums[name], requant) for name in op.inputs])


def weight_scales(
    writer: Writer, op: Op, x: str, channels: int, kernel: Any = kernels.product
) -> np.ndarray:
    """The scales with which LiteRT computes the multipliers of the requantization `op`."""
    m, shift = (np.broadcast_to(writer.const(name), (channels,)) for name in op.inputs[-2:])
    operand, result = writer.scale(x), writer.scale(op.output)
    live = np.flatnonzero(live_channels(writer, op, channels))
    scales = np.full(channels, result / operand, np.float32)
    known = kernels.scales_for(kernel, writer.form, operand, result, (m[live], shift[live]))
    if known is None:
        raise NotHeldError("no scale of a weight gives its multiplier in LiteRT")
    scales[live] = known
    return scales


def live_channels(writer: Writer, op: Op, channels: int) -> np.ndarray:
    """int8 (channels,): 0 where the requantization `op` has a multiplier of 0 that no scale gives
    in float32. Weights of 0 stand for it."""
    m = np.broadcast_to(writer.const(op.inputs[-2]), (channels,))
    return np.asarray((m != 0) | (writer.form != "float32"), np.int8)


def _operands(
    writer: Writer, op: Op, x: str, weight: np.ndarray, axis: int, bias: np.ndarray | None
) -> list[int]:
    """Weight and bias as tensors of the file. axis: of the weight's output channels."""
    channels = weight.shape[axis]
    scales, live = weight_scales(writer, op, x, channels), live_channels(writer, op, channels)
    weight = weight * np.expand_dims(live, [i for i in range(weight.ndim) if i != axis])
    w = writer.file.tensor(
        f"{op.output}.weight", weight.shape, scale=scales, axis=axis, data=weight
    )
    levels = np.zeros(channels, np.int32) if bias is None else bias * live
    real = (writer.scale(x) * scales).astype(np.float32)
    b = writer.file.tensor(f"{op.output}.bias", (channels,), "int32", scale=real, data=levels)
    return [w, b]


def unit_operands(writer: Writer, op: Op, x: str, weight: np.ndarray) -> list[int]:
    """Weights of 1 for the channels of a picture, and no bias."""
    return _operands(writer, op, x, weight, 3, None)


def _demand_int8(writer: Writer, op: Op) -> None:
    dtype = writer.program.values[op.inputs[1]].dtype
    if dtype != "int8":
        raise NotHeldError(f"its weight is {dtype}: {writer.march} takes int8")


def _bias(writer: Writer, op: Op) -> np.ndarray | None:
    return writer.const(op.inputs[2]) if len(op.inputs) == 3 else None


def _convolved(
    writer: Writer,
    requant: Op,
    x: str,
    weight: np.ndarray,
    bias: np.ndarray | None,
    shape: tuple[int, ...],
    **attrs: Any,
) -> int:
    """A convolution (O, I/g, kh, kw) over the picture x. shape: (O, H, W) of its result."""
    channels, (out, per_group, *kernel) = writer.shape(x)[0], weight.shape
    depthwise = per_group == 1 and attrs["groups"] == channels
    order, axis = ((1, 2, 3, 0), 3) if depthwise else ((0, 2, 3, 1), 0)
    reach = [d * (k - 1) + 1 for d, k in zip(attrs["dilation"], kernel, strict=True)]
    source, padding = padded_window(writer, x, reach, attrs, shape, 0)
    operands = _operands(writer, requant, x, weight.transpose(order), axis, bias)
    options = {"depthMultiplier": out // channels} if depthwise else {}
    return writer.rounded(
        requant,
        "DEPTHWISE_CONV_2D" if depthwise else "CONV_2D",
        [source, *operands],
        file_shape(shape),
        padding=padding,
        strideH=attrs["stride"][0],
        strideW=attrs["stride"][1],
        dilationHFactor=attrs["dilation"][0],
        dilationWFactor=attrs["dilation"][1],
        **options,
    )


def _conv(writer: Writer, op: Op, requant: Op) -> int:
    weight, attrs = writer.const(op.inputs[1]), dict(op.attrs)
    shape = writer.shape(op.output)
    return _convolved(writer, requant, op.inputs[0], weight, _bias(writer, op), shape, **attrs)


def _linear(writer: Writer, op: Op, requant: Op) -> int:
    """A layer of XNNPACK; the reference kernels round a linear layer with a scale each channel in
    double, and compute a 1x1 convolution as all else."""
    x, weight = op.inputs[0], writer.const(op.inputs[1])
    shape, operand_shape = writer.shape(op.output), writer.shape(x)
    tensor = writer.in_order(writer.small(x), operand_shape, op.output)
    if writer.form == "float32":
        operands = _operands(writer, requant, x, weight, 0, _bias(writer, op))
        made = writer.rounded(
            requant, "FULLY_CONNECTED", [tensor, *operands], (1, *shape), keepNumDims=True
        )
        return writer.in_layout(made, shape, op.output)
    rows = prod(shape[:-1])
    tensor = writer.reshaped(tensor, (1, rows, 1, operand_shape[-1]), op.output)
    operands = _operands(writer, requant, x, weight[:, None, None], 0, _bias(writer, op))
    made = writer.rounded(
        requant, "CONV_2D", [tensor, *operands], (1, rows, 1, shape[-1]),
        padding=VALID, strideH=1, strideW=1,
    )  # fmt: skip
    return writer.in_layout(writer.reshaped(made, (1, *shape), op.output), shape, op.output)


def _mul(writer: Writer, op: Op, requant: Op) -> int:
    a, b = op.inputs
    m, shift = kernels.mul(
        writer.form, writer.scale(a), np.array([writer.scale(b)]), writer.scale(requant.output)
    )
    if not _same((m, shift), writer, requant):
        raise NotHeldError("the scales of its operands do not give its multiplier in LiteRT")
    weight_scales(writer, requant, a, 1, kernels.mul)
    shape = file_shape(writer.shape(op.output))
    return writer.rounded(requant, "MUL", [writer.small(a), writer.small(b)], shape)


def _same(multiplier: kernels.Multiplier, writer: Writer, requant: Op) -> bool:
    wanted = [writer.const(name) for name in requant.inputs[-2:]]
    return all(np.array_equal(a, b) for a, b in zip(multiplier, wanted, strict=True))


def _sum_pool(writer: Writer, op: Op, requant: Op) -> int:
    x = op.inputs[0]
    channels = writer.shape(x)[0]
    weight = np.ones((channels, 1, *op.attrs["kernel"]), np.int8)
    attrs = {**op.attrs, "dilation": (1, 1), "groups": channels}
    return _convolved(writer, requant, x, weight, None, writer.shape(op.output), **attrs)


def _reduce_sum(writer: Writer, op: Op, requant: Op) -> int:
    """Over height and width of a picture; over other neighbouring dims, these as the height."""
    x, axes = op.inputs[0], sorted(op.attrs["axes"])
    shape = writer.shape(x)
    if len(shape) == 3 and axes == [2, 3]:
        weight = np.ones((shape[0], 1, *shape[1:]), np.int8)
        attrs = {"stride": (1, 1), "dilation": (1, 1), "padding": (0,) * 4, "groups": shape[0]}
        made = _convolved(writer, requant, x, weight, None, (shape[0], 1, 1), **attrs)
        kept = (shape[0], 1, 1)
        return writer.moved(made, kept, writer.shape(op.output), op.output)
    sizes = (1, *shape)
    before, area = prod(sizes[: axes[0]]), prod(sizes[a] for a in axes)
    behind = prod(sizes[axes[-1] + 1 :])
    tensor = writer.in_order(writer.small(x), shape, op.output)
    tensor = writer.reshaped(tensor, (before, area, 1, behind), op.output)
    weight = np.ones((1, area, 1, behind), np.int8)
    operands = _operands(writer, requant, x, weight, 3, None)
    made = writer.rounded(
        requant, "DEPTHWISE_CONV_2D", [tensor, *operands], (before, 1, 1, behind),
        padding=VALID, strideH=1, strideW=1, depthMultiplier=1,
    )  # fmt: skip
    out = writer.shape(op.output)
    return writer.in_layout(writer.reshaped(made, (1, *out), op.output), out, op.output)


def _check_reduce(writer: Writer, op: Op) -> None:
    axes = sorted(op.attrs["axes"])
    if axes != list(range(axes[0], axes[-1] + 1)):
        raise NotHeldError(
            "it sums over dims that are no neighbours", "sum over one after the other"
        )


def _conv_transpose(writer: Writer, op: Op, requant: Op) -> int:
    """The whole result without padding, and a slice of it."""
    x, weight, a = op.inputs[0], writer.const(op.inputs[1]), op.attrs
    channels, height, width = writer.shape(op.output)
    top, left, bottom, right = a["padding"]
    eh, ew = a["output_padding"]
    full = (height + top + bottom - eh, width + left + right - ew)
    scales = weight_scales(writer, requant, x, channels)
    live = live_channels(writer, requant, channels)
    data = weight.transpose(1, 2, 3, 0) * live[:, None, None, None]
    w = writer.file.tensor(f"{op.output}.weight", data.shape, scale=scales, axis=0, data=data)
    bias = _bias(writer, op)
    b = writer.file.tensor(
        f"{op.output}.bias", (channels,), "int32",
        scale=(writer.scale(x) * scales).astype(np.float32),
        data=np.zeros(channels, np.int32) if bias is None else bias * live,
    )  # fmt: skip
    shape = (1, *full, channels)
    made = writer.rounded(
        requant, "TRANSPOSE_CONV",
        [writer.ints(f"{op.output}.shape", shape), w, writer.small(x), b], shape,
        padding=VALID, strideH=a["stride"][0], strideW=a["stride"][1],
    )  # fmt: skip
    if full == (height, width):
        return made
    begin = (0, top, left, 0)
    end = (1, top + height, left + width, channels)
    names = [writer.ints(f"{op.output}.cut", array) for array in (begin, end, (1,) * 4)]
    cut = writer.like(made, (1, height, width, channels), "cut")
    return writer.file.op("STRIDED_SLICE", [made, *names], cut)


def _check_transposed(writer: Writer, op: Op) -> None:
    _demand_int8(writer, op)
    if op.attrs["groups"] != 1 or tuple(op.attrs["dilation"]) != (1, 1):
        raise NotHeldError(
            "TFLite's transposed convolution has no groups and no dilation",
            "use a resize and a convolution in its place",
        )
    _, _, bottom, right = op.attrs["padding"]
    if op.attrs["output_padding"][0] > bottom or op.attrs["output_padding"][1] > right:
        raise NotHeldError("its output_padding is larger than its padding", "choose a smaller one")


_CHECKS = {
    "conv": _demand_int8,
    "linear": _demand_int8,
    "conv_transpose": _check_transposed,
    "reduce_sum": _check_reduce,
}
#: Kinds whose channels may have a scale each -> their dim.
_CHANNELS = {"conv": 1, "conv_transpose": 1, "sum_pool": 1}
_WRITERS = {
    "concat": _joined,
    "conv": _conv,
    "conv_transpose": _conv_transpose,
    "linear": _linear,
    "mul": _mul,
    "sum_pool": _sum_pool,
    "reduce_sum": _reduce_sum,
}
