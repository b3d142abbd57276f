"""Pooling and reductions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from torch import fx

from qatspec.graph.context import GraphContext
from qatspec.types import Annotation, Observed, Shared

if TYPE_CHECKING:
    from qatspec.lower.context import Lowering
    from qatspec.program.lowered import Sum


def annotate_max(node: fx.Node, context: GraphContext) -> Annotation:
    """A maximum is one of its inputs: exactly the input's scale."""
    return Annotation(output=Shared())


def annotate_average(node: fx.Node, context: GraphContext) -> Annotation:
    """An average needs a finer grid than its input: a range of its own."""
    return Annotation(output=Observed())


def lower_max(node: fx.Node, lowering: Lowering) -> Sum:
    """The largest integer is the largest number."""
    op = lowering.context.op(node)
    x = lowering.integer(node.args[0])
    if op == "max_pool2d":
        return lowering.keep("max_pool", x, **_window(node, lowering))
    if op == "adaptive_max_pool2d":
        kernel, zeros = _adaptive(node, lowering), (0, 0, 0, 0)
        return lowering.keep(
            "max_pool", x, kernel=kernel, stride=kernel, padding=zeros, dilation=(1, 1)
        )
    if "amax" not in str(getattr(node.target, "__name__", node.target)):
        lowering.fail(f"{op} has no integer form here", "use max_pool2d, or amax over dims")
    axes, keepdim = _reduced(node, lowering)
    return lowering.keep("reduce_max", x, axes=axes, keepdim=keepdim)


def lower_average(node: fx.Node, lowering: Lowering) -> Sum:
    """A sum of integers; the division by the count goes into the multiplier."""
    op, setting = lowering.context.op(node), lowering.context.setting
    x = lowering.integer(node.args[0])
    if op == "mean":
        axes, keepdim = _reduced(node, lowering)
        count = int(np.prod([lowering.shape(node.args[0])[a] for a in axes]))
        return lowering.emit("reduce_sum", (x.value,), x.scale / count, axes=axes, keepdim=keepdim)
    if op == "adaptive_avg_pool2d":
        kernel = _adaptive(node, lowering)
        attrs: dict[str, Any] = {"kernel": kernel, "stride": kernel, "padding": (0, 0, 0, 0)}
    else:
        attrs = _window(node, lowering)
        padded = any(attrs["padding"])
        if padded and not setting(node, 5, "count_include_pad", True):
            lowering.fail(
                "its divisor varies at the border", "use count_include_pad=True, or no padding"
            )
        if setting(node, 4, "ceil_mode", False) and attrs["padding"] != _padding(node, lowering, 3):
            lowering.fail("its last windows are cut, so that its divisor varies", "no ceil_mode")
        del attrs["dilation"]
    divisor = setting(node, 6, "divisor_override") if op == "avg_pool2d" else None
    count = divisor or attrs["kernel"][0] * attrs["kernel"][1]
    return lowering.emit("sum_pool", (x.value,), x.scale / count, **attrs)


def _pair(value: Any) -> tuple[int, int]:
    pair = tuple(value) if isinstance(value, (tuple, list)) else (value,)
    return (pair[0], pair[-1])


def _padding(node: fx.Node, lowering: Lowering, position: int) -> tuple[int, int, int, int]:
    h, w = _pair(lowering.context.setting(node, position, "padding", 0))
    return h, w, h, w


def _window(node: fx.Node, lowering: Lowering) -> dict[str, Any]:
    """Kernel, stride, padding and dilation; ceil_mode becomes padding at the far edges."""
    setting = lowering.context.setting
    average = lowering.context.op(node) == "avg_pool2d"
    kernel = _pair(setting(node, 1, "kernel_size"))
    given = setting(node, 2, "stride")
    stride = kernel if given in (None, [], ()) else _pair(given)
    dilation = (1, 1) if average else _pair(setting(node, 4, "dilation", 1))
    top, left, bottom, right = _padding(node, lowering, 3)
    if setting(node, 4 if average else 5, "ceil_mode", False):
        sizes, results = lowering.shape(node.args[0])[2:], lowering.shape()[2:]
        needed = [
            (out - 1) * s + d * (k - 1) + 1 - size
            for out, s, d, k, size in zip(results, stride, dilation, kernel, sizes, strict=True)
        ]
        bottom, right = max(bottom, needed[0] - top), max(right, needed[1] - left)
    padding = (top, left, bottom, right)
    return {"kernel": kernel, "stride": stride, "padding": padding, "dilation": dilation}


def _adaptive(node: fx.Node, lowering: Lowering) -> tuple[int, int]:
    """The kernel (and stride) of an adaptive pooling whose windows are all alike."""
    sizes, results = lowering.shape(node.args[0])[2:], lowering.shape()[2:]
    if any(size % out for size, out in zip(sizes, results, strict=True)):
        lowering.fail(
            f"{sizes} does not divide into {results}: its windows differ in size",
            "choose an output size that divides the input's",
        )
    return (sizes[0] // results[0], sizes[1] // results[1])


def _reduced(node: fx.Node, lowering: Lowering) -> tuple[tuple[int, ...], bool]:
    rank = len(lowering.shape(node.args[0]))
    dims = lowering.context.argument(node, 1, "dim")
    dims = range(rank) if dims is None else dims if isinstance(dims, (tuple, list)) else (dims,)
    axes = tuple(sorted(d % rank for d in dims))
    if 0 in axes:
        lowering.fail("it reduces over the batch", "name the dims to reduce")
    return axes, bool(lowering.context.argument(node, 2, "keepdim", False))
