"""Convolutions whose int32 sums are results of the Program.

onnxruntime has no fast convolution with such results: its ConvInteger is ten times slower than
MatMulInteger. So the pixels that a window meets are put side by side, with the channel innermost.
Convolutions by one window on the same values, such as the heads of a detector, are one product.
Grouped convolutions are float32 where every partial sum is an integer below 2^24.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np

from qatspec.export.fast.products import window_attributes
from qatspec.export.fast.values import Values
from qatspec.ir import Op
from qatspec.kinds.products.onnx import conv as exact_conv

#: Rows and columns of the largest kernel that is spread into a matrix.
_SPREAD = 7


def window_of(emit: Values, op: Op) -> Hashable:
    """What convolutions have in common that can be one product: the values that they read, and
    which of them; None for a convolution that is no matrix product."""
    a, kernel = op.attrs, emit.array(op, 1).shape[2:]
    if a["groups"] > 1 or max(kernel) > _SPREAD:
        return None
    return op.inputs[0], kernel, *(tuple(a[name]) for name in ("stride", "padding", "dilation"))


def conv(emit: Values, op: Op) -> str:
    """The int32 sums of a convolution, exact; those of its siblings go into `emit.names`."""
    window = window_of(emit, op)
    if window is not None:
        siblings = emit.tails.get(window, [])
        emit.names |= _product(emit, siblings if op in siblings else [op])
        return emit.names[op.output]
    weight, graph = emit.array(op, 1), emit.graph
    bias = emit.array(op, 2).astype(np.int64) if len(op.inputs) == 3 else np.zeros(1, np.int64)
    largest = 255 * np.abs(weight.astype(np.int64)).reshape(len(weight), -1).sum(1) + np.abs(bias)
    if largest.max() >= 1 << 24:
        return exact_conv(emit, op)
    names = [
        emit.real(op.inputs[0], np.ones(1), None),
        graph.const(op.inputs[1], weight, np.float32),
    ]
    if len(op.inputs) == 3:
        names.append(graph.const(op.inputs[2], bias, np.float32))
    sums = graph.node("Conv", names, f"{op.output}.float", **window_attributes(op, weight))
    return graph.cast(sums, np.int32, op.output)


def _product(emit: Values, ops: Sequence[Op]) -> dict[str, str]:
    """One MatMulInteger a row of the kernel, over all columns and channels. Returns the names of
    all results."""
    graph, first, zero = emit.graph, ops[0], emit.zero(ops[0].inputs[0])
    weight = np.concatenate([emit.array(op, 1) for op in ops])
    sizes = [len(emit.array(op, 1)) for op in ops]
    total = ""
    for tap, rows in enumerate(_rows(emit, first, weight.shape[2:])):
        matrix = weight[:, :, tap].transpose(2, 1, 0).reshape(-1, len(weight))
        matrix = graph.const(f"{first.inputs[1]}.row", matrix, np.int8, shared=False)
        part = graph.node("MatMulInteger", [rows, matrix, zero], f"{first.output}.row")
        total = graph.node("Add", [total, part], f"{first.output}.sum") if total else part
    biases = [
        emit.array(op, 2) if len(op.inputs) == 3 else np.zeros(size)
        for op, size in zip(ops, sizes, strict=True)
    ]
    if np.concatenate(biases).any():
        bias = graph.const(f"{first.output}.bias", np.concatenate(biases), np.int32)
        total = graph.node("Add", [total, bias], f"{first.output}.biased")
    if len(ops) == 1:
        return {first.output: graph.node("Transpose", [total], first.output, perm=[0, 3, 1, 2])}
    total = graph.node("Transpose", [total], f"{first.output}.all", perm=[0, 3, 1, 2])
    starts = np.cumsum([0, *sizes])
    return {
        op.output: _cut(emit, total, 1, (starts[i], starts[i + 1], 1), op.output)
        for i, op in enumerate(ops)
    }


def _rows(emit: Values, op: Op, kernel: tuple[int, ...]) -> list[str]:
    """For every row of the kernel, the pixels that it meets: columns of the kernel and channels
    innermost."""
    graph, a, name = emit.graph, op.attrs, op.output
    have, made = emit.shape(op.inputs[0])[1:], emit.shape(name)[1:]
    zero, padding = emit.zero(op.inputs[0]), a["padding"]
    x = graph.node("Transpose", [emit.unsigned(op.inputs[0])], f"{name}.last", perm=[0, 2, 3, 1])
    if any(padding):
        top, left, bottom, right = padding
        pads = graph.const(f"{name}.pads", [0, top, left, 0, 0, bottom, right, 0], np.int64)
        x = graph.node("Pad", [x, pads, zero], f"{name}.pad")
    padded = [size + padding[i] + padding[i + 2] for i, size in enumerate(have)]

    def taken(x: str, axis: int) -> list[str]:
        """For every place of the kernel along an axis, all that it meets there."""
        i, slices = axis - 1, []
        for tap in range(kernel[i]):
            stride, start = a["stride"][i], tap * a["dilation"][i]
            part = (start, start + (made[i] - 1) * stride + 1, stride)
            is_complete = part == (0, padded[i], 1)
            slices.append(x if is_complete else _cut(emit, x, axis, part, f"{name}.taken"))
        return slices

    columns = taken(x, 2)
    if len(columns) > 1:
        columns = [graph.node("Concat", columns, f"{name}.columns", axis=3)]
    return taken(columns[0], 1)


def _cut(emit: Values, x: str, axis: int, part: tuple[int, int, int], name: str) -> str:
    start, stop, step = part
    ends = [emit.graph.const("cut", [v], np.int64) for v in (start, stop, axis, step)]
    return emit.graph.node("Slice", [x, *ends], name)
