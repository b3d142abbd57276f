"""Pooling in float ONNX, over one to three spatial dims."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Any

import numpy as np
from torch import fx

from qatspec.ops.pools.windows import (
    Spans,
    Window,
    adaptive_spans,
    averages,
    averaging,
    even,
    max_windows,
)
from qatspec.qdq import QdqWriter


def write_max_pool(node: fx.Node, q: QdqWriter) -> str:
    """MaxPool; ceil_mode's padding is written out.

    Runtimes refuse padding that is not smaller than the kernel, which a dilated kernel may need:
    such padding is a Pad with minus infinity of its own.
    """
    x, windows = q.operand(node.args[0]), max_windows(node, q.context)
    if any(max(w.padding, w.beyond) >= w.kernel for w in windows):
        amounts = [side for w in reversed(windows) for side in (w.padding, w.beyond)]
        x = q.padded(x, amounts, "constant", -np.inf, len(windows) + 2, f"{node.name}.padded")
        windows = [w.over_padded() for w in windows]
    return _windowed(node, q, "MaxPool", windows, x, dilations=[w.dilation for w in windows])


def write_average_pool(node: fx.Node, q: QdqWriter) -> str:
    """AveragePool over the zeros of the padding as well, times a map where torch divides by less:
    runtimes disagree on what ceil_mode divides by."""
    average = averages(node, q.context)
    kernels = [window.kernel for window in average.windows]
    shares = reduce(np.multiply.outer, map(np.array, average.counts))
    factor = np.prod(kernels) / (average.divisor * shares)
    plain = (factor == 1.0).all()
    name = node.name if plain else f"{node.name}.sum"
    x = q.operand(node.args[0])
    y = _windowed(node, q, "AveragePool", average.windows, x, name=name, count_include_pad=1)
    if plain:
        return y
    return q.graph.node(
        "Mul", [y, q.graph.const(f"{node.name}.share", factor, np.float32)], node.name
    )


def _windowed(
    node: fx.Node,
    q: QdqWriter,
    op: str,
    windows: Sequence[Window],
    x: str,
    name: str | None = None,
    **attrs: Any,
) -> str:
    return q.graph.node(
        op,
        [x],
        name or node.name,
        kernel_shape=[w.kernel for w in windows],
        strides=[w.stride for w in windows],
        pads=[*(w.padding for w in windows), *(w.beyond for w in windows)],
        **attrs,
    )


def write_adaptive(node: fx.Node, q: QdqWriter) -> str:
    """Windows of different sizes are a matrix, or slices."""
    kind = "Max" if "max" in str(q.context.op(node)) else "Average"
    spans = adaptive_spans(node, q.context)
    if all(len(dim) == 1 for dim in spans):
        return q.graph.node(f"Global{kind}Pool", [q.operand(node.args[0])], node.name)
    x = q.operand(node.args[0])
    if windows := even(spans):
        return _windowed(node, q, f"{kind}Pool", windows, x)
    if kind == "Max":
        for axis, dim in enumerate(spans, 2):
            x = _max_along(q, x, axis, dim, node.name)
        return x
    matrix, divisor = averaging(spans)
    flat = q.graph.const("flat", [0, 0, matrix.shape[1]], np.int64)
    x = q.graph.node("Reshape", [x, flat], f"{node.name}.flat")
    weight = q.graph.const(f"{node.name}.windows", matrix.T / divisor, np.float32)
    x = q.graph.node("MatMul", [x, weight], f"{node.name}.means")
    size = q.graph.const("whole", [0, 0, *map(len, spans)], np.int64)
    return q.graph.node("Reshape", [x, size], node.name)


def _max_along(q: QdqWriter, x: str, axis: int, dim: Spans, name: str) -> str:
    parts = []
    for first, last in dim:
        part = q.cut(x, axis, slice(first, last), f"{name}.window")
        parts.append(q.reduced("ReduceMax", part, [axis], True, f"{name}.max"))
    return q.graph.node("Concat", parts, name, axis=axis)
