"""Float ONNX forms of pools, reductions, resizes and paddings, for the Q/DQ file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import fx

from qatspec.handlers.discarded import setting
from qatspec.handlers.window import (
    Window,
    adaptive_spans,
    averaging,
    divisors,
    even,
    sliding_windows,
)
from qatspec.onnx.float_arithmetic import binary

if TYPE_CHECKING:
    from qatspec.onnx.qdq import QdqWriter

Write = Callable[["QdqWriter", fx.Node], Any]


def max_pool(q: QdqWriter, node: fx.Node) -> str:
    """MaxPool of one to three dims; ceil_mode's padding is written out.

    Runtimes refuse padding that is not smaller than the kernel, which a dilated kernel may need:
    such padding is a Pad with minus infinity of its own.
    """
    x, windows = q.operand(node.args[0]), sliding_windows(node, q.context)
    if any(max(w.padding, w.beyond) >= w.kernel for w in windows):
        amounts = [side for w in reversed(windows) for side in (w.padding, w.beyond)]
        x = padded(q, x, amounts, "constant", -np.inf, len(windows) + 2, f"{node.name}.padded")
        windows = [w.over_padded() for w in windows]
    return _windowed(q, node, "MaxPool", windows, x, dilations=[w.dilation for w in windows])


def average_pool(q: QdqWriter, node: fx.Node) -> str:
    """AveragePool over the zeros of the padding as well, times a map where torch divides by less:
    runtimes disagree on what ceil_mode divides by."""
    windows = sliding_windows(node, q.context)
    counts, divisor = divisors(node, q.context, windows)
    kernels = [window.kernel for window in windows]
    factor = np.prod(kernels) / (divisor * reduce(np.multiply.outer, map(np.array, counts)))
    plain = (factor == 1.0).all()
    name = node.name if plain else f"{node.name}.sum"
    x = q.operand(node.args[0])
    y = _windowed(q, node, "AveragePool", windows, x, name=name, count_include_pad=1)
    if plain:
        return y
    return q.w.node("Mul", [y, q.w.const(f"{node.name}.share", factor, np.float32)], node.name)


def _windowed(
    q: QdqWriter,
    node: fx.Node,
    op: str,
    windows: Sequence[Window],
    x: str,
    name: str | None = None,
    **attrs: Any,
) -> str:
    return q.w.node(
        op,
        [x],
        name or node.name,
        kernel_shape=[w.kernel for w in windows],
        strides=[w.stride for w in windows],
        pads=[*(w.padding for w in windows), *(w.beyond for w in windows)],
        **attrs,
    )


def adaptive(kind: str) -> Write:
    """kind: Average or Max. Windows of different sizes are a matrix, or slices."""

    def write(q: QdqWriter, node: fx.Node) -> str:
        spans = adaptive_spans(node, q.context)
        if all(len(dim) == 1 for dim in spans):
            return q.w.node(f"Global{kind}Pool", [q.operand(node.args[0])], node.name)
        x = q.operand(node.args[0])
        if windows := even(spans):
            return _windowed(q, node, f"{kind}Pool", windows, x)
        if kind == "Max":
            for axis, dim in enumerate(spans, 2):
                x = _max_along(q, x, axis, dim, node.name)
            return x
        matrix, divisor = averaging(spans)
        flat = q.w.const("flat", [0, 0, matrix.shape[1]], np.int64)
        x = q.w.node("Reshape", [x, flat], f"{node.name}.flat")
        weight = q.w.const(f"{node.name}.windows", matrix.T / divisor, np.float32)
        x = q.w.node("MatMul", [x, weight], f"{node.name}.means")
        whole = q.w.const("whole", [0, 0, *map(len, spans)], np.int64)
        return q.w.node("Reshape", [x, whole], node.name)

    return write


def _max_along(q: QdqWriter, x: str, axis: int, dim: list[tuple[int, int]], name: str) -> str:
    parts = []
    for first, last in dim:
        part = q.cut(x, axis, slice(first, last), f"{name}.window")
        parts.append(q.reduced("ReduceMax", part, [axis], True, f"{name}.max"))
    return q.w.node("Concat", parts, name, axis=axis)


def reduction(op: str) -> Write:
    """ReduceMean, ReduceSum or ReduceMax over given dims."""

    def write(q: QdqWriter, node: fx.Node) -> str:
        rank = len(q.context.shape(node.args[0]))
        dims = q.context.argument(node, 1, "dim")
        dims = range(rank) if dims is None else dims if isinstance(dims, (tuple, list)) else [dims]
        keep = bool(q.context.argument(node, 2, "keepdim", False))
        axes = [int(d) % rank for d in dims]
        return q.reduced(op, q.operand(node.args[0]), axes, keep, node.name)

    return write


def maximum(q: QdqWriter, node: fx.Node) -> Any:
    """Of two tensors, over all, or over a dim: the last gives places beside the values."""
    if isinstance(q.context.argument(node, 1, "dim"), fx.Node):
        return binary("Max")(q, node)
    if not isinstance(q.context.value(node), (tuple, list)):
        return reduction("ReduceMax")(q, node)
    x, axis = q.operand(node.args[0]), int(q.context.argument(node, 1, "dim"))
    keep = bool(q.context.argument(node, 2, "keepdim", False))
    axis %= len(q.context.shape(node.args[0]))
    values = q.reduced("ReduceMax", x, [axis], keep, node.name)
    name = f"{node.name}.indices"
    return [values, q.w.node("ArgMax", [x], name, axis=axis, keepdims=int(keep))]


def argmax(q: QdqWriter, node: fx.Node) -> str:
    """The first place of the maximum along a dim, or in the whole tensor."""
    x, dim = q.operand(node.args[0]), q.context.argument(node, 1, "dim")
    if dim is not None:
        axis = int(dim) % len(q.context.shape(node.args[0]))
        keep = int(q.context.argument(node, 2, "keepdim", False))
        return q.w.node("ArgMax", [x], node.name, axis=axis, keepdims=keep)
    x = q.w.node("Reshape", [x, q.w.const("all", [-1], np.int64)], f"{node.name}.flat")
    x = q.w.node("ArgMax", [x], f"{node.name}.place", axis=0, keepdims=1)
    return q.reshaped(node, x, (1,), q.sizes(node), node.name)


def interpolate(q: QdqWriter, node: fx.Node) -> str:
    """Resize; by the factor where one is given, else by the size."""
    setting = q.context.setting
    mode = setting(node, 3, "mode", "nearest")
    aligned = setting(node, 4, "align_corners", False)
    shapes = [tuple(q.context.value(n).shape)[2:] for n in (node.args[0], node)]
    coordinates = {
        "nearest": ("nearest", "asymmetric"),
        "nearest-exact": ("nearest", "half_pixel"),
        "linear": ("linear", "align_corners" if aligned else "pytorch_half_pixel"),
    }.get("linear" if mode in ("linear", "bilinear") else mode)
    if coordinates is None:
        q.fail(node, f"interpolate mode {mode!r}")
    attrs = {"mode": coordinates[0], "coordinate_transformation_mode": coordinates[1]}
    if attrs["mode"] == "nearest":
        attrs["nearest_mode"] = "floor" if mode == "nearest" else "round_prefer_ceil"
    x, w, given = q.operand(node.args[0]), q.w, setting(node, 2, "scale_factor")
    if given is None or setting(node, 5, "recompute_scale_factor"):
        factors = [after / before for before, after in zip(*shapes, strict=True)]
    else:
        factors = list(given) if isinstance(given, (tuple, list)) else [given] * len(shapes[0])
    if given is not None or all(factor == int(factor) for factor in factors):
        scales = w.const(f"{node.name}.scales", [1.0, 1.0, *map(float, factors)], np.float32)
        return w.node("Resize", [x, "", scales], node.name, **attrs)
    shape = w.node("Shape", [x], f"{node.name}.shape", start=0, end=2)
    wanted = [shape, w.const(f"{node.name}.size", shapes[1], np.int64)]
    whole = w.node("Concat", wanted, f"{node.name}.sizes", axis=0)
    return w.node("Resize", [x, "", "", whole], node.name, **attrs)


def pad(q: QdqWriter, node: fx.Node) -> str:
    """A pad in any spelling."""
    amounts, mode, value = setting(node, q.context)
    rank = len(q.context.shape(node))
    return padded(q, q.operand(node.args[0]), amounts, mode, value, rank, node.name)


def padded(
    q: QdqWriter, x: str, amounts: Sequence[int], mode: str, value: float, rank: int, name: str
) -> str:
    """x of `rank` dims with `amounts` around it, torch's way, the last dim first."""
    amounts = [*amounts, *[0] * (2 * rank - len(amounts))]
    sides = [(amounts[2 * (rank - 1 - d)], amounts[2 * (rank - 1 - d) + 1]) for d in range(rank)]
    if mode == "circular":  # Pad knows it from opset 19 on
        for axis, (before, after) in enumerate(sides):
            parts = [x]
            if before:
                parts.insert(0, q.cut(x, axis, slice(-before, None), f"{name}.end"))
            if after:
                parts.append(q.cut(x, axis, slice(0, after), f"{name}.start"))
            x = q.w.node("Concat", parts, name, axis=axis) if len(parts) > 1 else x
        return x
    pads = [side[0] for side in sides] + [side[1] for side in sides]
    names = [x, q.w.const(f"{name}.pads", pads, np.int64)]
    if mode == "constant":
        names.append(q.fill(value))
    onnx_mode = {"replicate": "edge"}.get(mode, mode)
    return q.w.node("Pad", names, name, mode=onnx_mode)
