"""Sums of products in standard ONNX ops: ConvInteger and MatMulInteger (8-bit operands, int32 sums,
exact); int16 operands go as two 8-bit halves."""

from __future__ import annotations

import numpy as np

from qatspec.ir import Op
from qatspec.kinds.emitter import Emitter
from qatspec.kinds.parts import add_products


def conv(emit: Emitter, op: Op) -> str:
    """A convolution, one a part."""
    a, weight = op.attrs, emit.array(op, 1)

    def write(x: str, name: str, output: str) -> str:
        return emit.graph.node(
            "ConvInteger",
            [x, name],
            output,
            kernel_shape=list(weight.shape[2:]),
            strides=list(a["stride"]),
            pads=list(a["padding"]),
            dilations=list(a["dilation"]),
            group=a["groups"],
        )

    return add_products(emit, op, weight, write, (-1, 1, 1))


def conv_transpose(emit: Emitter, op: Op) -> str:
    """There is no integer ConvTranspose: zeros are inserted between the inputs, and the kernel is
    flipped."""
    a, graph, weight = op.attrs, emit.graph, emit.array(op, 1)
    groups, (channels, per_group, kh, kw) = a["groups"], weight.shape
    flipped = weight.reshape(groups, channels // groups, per_group, kh, kw)[..., ::-1, ::-1]
    flipped = flipped.swapaxes(1, 2).reshape(groups * per_group, channels // groups, kh, kw)
    height, width = emit.shape(op.inputs[0])[1:]
    sh, sw = a["stride"]
    reach = [d * (k - 1) for d, k in zip(a["dilation"], (kh, kw), strict=True)]
    top, left, bottom, right = a["padding"]
    eh, ew = a["output_padding"]
    # Pads around the (h - 1) * s + 1 spread rows; the zeros behind the last row count too.
    pads = [reach[0] - top, reach[1] - left]
    pads += [reach[0] - bottom + eh - (sh - 1), reach[1] - right + ew - (sw - 1)]

    def write(x: str, name: str, output: str) -> str:
        if (sh, sw) != (1, 1):
            shape = graph.const(f"{output}.apart", [0, channels, height, 1, width, 1], np.int64)
            x = graph.node("Reshape", [x, shape], f"{output}.reshape")
            zeros = graph.const(f"{output}.zeros", [0] * 6 + [0, 0, 0, sh - 1, 0, sw - 1], np.int64)
            x = graph.node("Pad", [x, zeros], f"{output}.spread")
            shape = graph.const(f"{output}.shape", [0, channels, height * sh, width * sw], np.int64)
            x = graph.node("Reshape", [x, shape], f"{output}.spread")
        if min(pads) < 0:
            ends = [p if p < 0 else np.iinfo(np.int64).max for p in pads[2:]]
            cut = [[-min(pads[0], 0), -min(pads[1], 0)], ends, [2, 3]]
            names = [graph.const(f"{output}.cut", c, np.int64) for c in cut]
            x = graph.node("Slice", [x, *names], f"{output}.cut")
        return graph.node(
            "ConvInteger",
            [x, name],
            output,
            kernel_shape=[kh, kw],
            pads=[max(p, 0) for p in pads],
            dilations=list(a["dilation"]),
            group=groups,
        )

    return add_products(emit, op, flipped, write, (-1, 1, 1))


def linear(emit: Emitter, op: Op) -> str:
    """A matrix product over the last dim. onnxruntime rewrites its weight where it is asked for
    kernels that do not saturate, and fails on one that two nodes read."""

    def write(x: str, name: str, output: str) -> str:
        return emit.graph.node("MatMulInteger", [x, name], output)

    return add_products(emit, op, emit.array(op, 1).T, write, (-1,), shared=False)


def matmul(emit: Emitter, op: Op) -> str:
    graph, names = emit.graph, [emit.x(op, i) for i in (0, 1)]
    if all(emit.dtype(name) != "int16" for name in op.inputs):
        return graph.node("MatMulInteger", names, op.output)
    wide = [graph.cast(name, np.float64, f"{op.output}.wide") for name in names]
    return graph.cast(graph.node("MatMul", wide, f"{op.output}.product"), np.int32, op.output)
