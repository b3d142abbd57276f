"""Convolutions and matrix products in kernels of uint8 by int8."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from qatspec.export.fast.values import Values
from qatspec.ir import Op

#: Output channels from which onnxruntime's convolution reads pixels in place and rounds at once
#: (MlasConvSym); input and output channels must be multiples of 4 as well.
_DIRECT = 16


def requantized_conv(
    emit: Values, op: Op, weight: np.ndarray, requant: Op, factor: np.ndarray
) -> str:
    """A convolution and the requantization behind it: QLinearConv with the weight scale m / 2^s.
    Channels by which its result or its operand is wider have weights of 0.

    Weights and zero points are not shared: see QdqWriter.integers.
    """
    graph, bias = emit.graph, emit.array(op, 2) if len(op.inputs) == 3 else None
    more = emit.widths.get(requant.output, len(weight)) - len(weight)
    factor = np.pad(np.broadcast_to(factor, (len(weight),)), (0, more), constant_values=1.0)
    inner = emit.widths.get(op.inputs[0], 0) - weight.shape[1] if op.attrs["groups"] == 1 else 0
    weight = np.pad(weight, [(0, more), (0, max(inner, 0)), (0, 0), (0, 0)])
    if op.attrs["groups"] > 1 and more:
        op = replace(op, attrs={**op.attrs, "groups": len(weight)})
    x, weight, window = _aligned(emit, op, weight)
    names = [
        x, emit.one(), emit.zero(op.inputs[0]),
        graph.const(op.inputs[1], weight, np.int8, shared=False),
        graph.const(f"{requant.output}.m", factor, np.float32),
        graph.const("zeros", np.zeros(len(weight)), np.int8, shared=False),
        emit.one(), emit.zero(requant.output),
    ]  # fmt: skip
    if bias is not None:
        names.append(graph.const(op.inputs[2], np.pad(bias, (0, more)), np.int32))
    q = graph.node("QLinearConv", names, f"{requant.output}.conv", **window)
    return emit.clipped(q, requant)


def _aligned(emit: Values, op: Op, weight: np.ndarray) -> tuple[str, np.ndarray, dict[str, Any]]:
    """The operand, weight and attributes of a convolution, widened to a multiple of 4 input
    channels where onnxruntime then reads pixels in place."""
    x, (out, channels, *kernel) = emit.widened(op.inputs[0]), weight.shape
    window = window_attributes(op, weight)
    if channels % 4 == 0 or op.attrs["groups"] > 1 or out < _DIRECT or kernel == [1, 1]:
        return x, weight, window
    is_even = all(size % 2 == 0 for size in emit.shape(op.inputs[0])[1:])
    if channels < 4 and min(kernel) > 3 and is_even and _steps_by_two(op.attrs):
        return _in_blocks(emit, op, x, weight)
    more = -channels % 4  # channels of weight 0
    pads = emit.graph.const(f"{op.output}.pads", [0, 0, 0, 0, 0, more, 0, 0], np.int64)
    x = emit.graph.node("Pad", [x, pads, emit.zero(op.inputs[0])], f"{op.output}.widened")
    return x, np.pad(weight, [(0, 0), (0, more), (0, 0), (0, 0)]), window


def _in_blocks(
    emit: Values, op: Op, x: str, weight: np.ndarray
) -> tuple[str, np.ndarray, dict[str, Any]]:
    """A convolution of stride 2 as one of stride 1 on blocks of 2 x 2 pixels, whose kernel is half
    as large and has four times the channels. Sizes of the image are even."""
    out, channels, *_ = weight.shape
    x = emit.graph.node("SpaceToDepth", [x], f"{op.output}.blocks", blocksize=2)
    # a window begins and ends with a whole block
    before = [padding % 2 for padding in op.attrs["padding"][:2]]
    fill = [(b, (b + size) % 2) for b, size in zip(before, weight.shape[2:], strict=True)]
    weight = np.pad(weight, [(0, 0), (0, 0), *fill])
    kernel = [size // 2 for size in weight.shape[2:]]
    blocks = weight.reshape(out, channels, kernel[0], 2, kernel[1], 2).transpose(0, 3, 5, 1, 2, 4)
    begin = [(p + b) // 2 for p, b in zip(op.attrs["padding"][:2], before, strict=True)]
    have, made = emit.shape(op.inputs[0])[1:], emit.shape(op.output)[1:]
    end = [made[i] + kernel[i] - 1 - have[i] // 2 - begin[i] for i in (0, 1)]
    window = {"kernel_shape": kernel, "pads": [*begin, *end]}
    return x, blocks.reshape(out, 4 * channels, *kernel), window


def _steps_by_two(a: Mapping[str, Any]) -> bool:
    return tuple(a["stride"]) == (2, 2) and tuple(a["dilation"]) == (1, 1)


def window_sum(emit: Values, op: Op, requant: Op, factor: np.ndarray) -> str:
    """A sum over windows and the requantization behind it: a depthwise convolution by 1."""
    channels = emit.shape(op.inputs[0])[0]
    weight = np.ones((channels, 1, *op.attrs["kernel"]), np.int8)
    attrs = {**op.attrs, "dilation": (1, 1), "groups": channels}
    depthwise = Op(
        kind="conv", inputs=(op.inputs[0], f"{op.output}.ones"), output=op.output, attrs=attrs
    )
    return requantized_conv(emit, depthwise, weight, requant, factor)


def window_attributes(op: Op, weight: np.ndarray) -> dict[str, Any]:
    """The attributes of a convolution."""
    a = op.attrs
    return {
        "kernel_shape": list(weight.shape[2:]),
        "strides": list(a["stride"]),
        "pads": list(a["padding"]),
        "dilations": list(a["dilation"]),
        "group": a["groups"],
    }


def linear(emit: Values, op: Op) -> str:
    """The int32 sums of a linear layer, exact."""
    graph = emit.graph
    matrix = graph.const(op.inputs[1], emit.array(op, 1).T, np.int8, shared=False)
    sums = graph.node(
        "MatMulInteger",
        [emit.unsigned(op.inputs[0]), matrix, emit.zero(op.inputs[0])],
        f"{op.output}.acc",
    )
    if len(op.inputs) < 3:
        return sums
    return graph.node(
        "Add", [sums, graph.const(op.inputs[2], emit.array(op, 2), np.int32)], op.output
    )


def real_linear(emit: Values, op: Op, factor: np.ndarray, axis: int) -> str:
    """A linear layer times m / 2^s, as float32: MatMulIntegerToFloat in onnxruntime."""
    graph, factor = emit.graph, np.broadcast_to(factor, emit.array(op, 1).shape[:1])
    names = [
        graph.const(op.inputs[1], emit.array(op, 1).T, np.int8, shared=False),
        graph.const(f"{op.output}.m", factor, np.float32),
        graph.const("zeros", np.zeros(len(factor)), np.int8, shared=False),
    ]
    matrix = graph.node("DequantizeLinear", names, f"{op.inputs[1]}.real", axis=1)
    x = emit.real(op.inputs[0], np.ones(1), None)
    y = graph.node("MatMul", [x, matrix], f"{op.output}.product")
    if len(op.inputs) < 3:
        return y
    bias = emit.array(op, 2) * factor
    return graph.node(
        "Add", [y, graph.const(op.inputs[2], bias, np.float32)], f"{op.output}.biased"
    )


def real_product(kind: str, emit: Values, op: Op, factor: np.ndarray, axis: int) -> str | None:
    """The product of two activations times m / 2^s, as float32: QLinearMul or QLinearMatMul
    together with the rounding behind it. None where one factor a channel would not meet the same
    channel of the first operand."""
    first, second = op.inputs
    along = emit.shape(first)[axis - 1 : axis] if kind == "Mul" else ()
    if factor.size > 1 and along != factor.shape:
        return None
    sides = [emit.real(first, factor, axis), emit.real(second, np.ones(1), None)]
    return emit.graph.node(kind, sides, f"{op.output}.product")
