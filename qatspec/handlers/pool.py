"""Pooling and reductions."""

from __future__ import annotations

from itertools import groupby
from math import prod
from typing import TYPE_CHECKING, Any

from torch import fx

from qatspec.graph.context import GraphContext
from qatspec.handlers.depth import as_columns, joined, planes, window_taps
from qatspec.handlers.discarded import may_pass
from qatspec.handlers.window import (
    Spans,
    Window,
    adaptive_spans,
    averaging,
    divisors,
    even,
    sliding_windows,
)
from qatspec.program.lowered import Sum, Term
from qatspec.types import Annotation, Observed, Shared

if TYPE_CHECKING:
    from qatspec.ir import DType
    from qatspec.lower.context import Lowering


def annotate_max(node: fx.Node, context: GraphContext) -> Annotation:
    """A maximum is one of its inputs: exactly the input's scale. Behind padding whose constant
    may be the largest, a range of its own."""
    own = may_pass(node, context)
    return Annotation(output=Observed() if own else Shared())


def annotate_average(node: fx.Node, context: GraphContext) -> Annotation:
    """An average needs a finer grid than its input: a range of its own."""
    return Annotation(output=Observed())


def lower_max(node: fx.Node, lowering: Lowering) -> Sum | list[Sum]:
    """The largest integer is the largest number."""
    op = str(lowering.context.op(node))
    x = lowering.integer(node.args[0])
    if isinstance(lowering.context.value(node), (tuple, list)):
        return _max_and_place(node, lowering, op, x)
    if op.startswith("adaptive"):
        spans = adaptive_spans(node, lowering.context)
        windows = even(spans)
        return _max_pool(lowering, x, windows) if windows else _max_spans(lowering, x, spans)
    if op.startswith("max_pool"):
        return _max_pool(lowering, x, sliding_windows(node, lowering.context))
    if "amax" not in str(getattr(node.target, "__name__", node.target)):
        lowering.fail(
            f"{op} has no integer form here",
            "use a max pool, amax over dims, or torch.maximum of two tensors",
        )
    axes, keepdim = _reduced(node, lowering)
    return lowering.keep("reduce_max", x, axes=axes, keepdim=keepdim)


def _max_and_place(node: fx.Node, lowering: Lowering, op: str, x: Term) -> list[Sum]:
    """torch.max over a dim: the largest, and where it stands."""
    if op != "max":
        lowering.fail(f"{op} with indices has no integer form", "ask for the values alone")
    axes, keepdim = _reduced(node, lowering)
    most = lowering.keep("reduce_max", x, axes=axes, keepdim=keepdim)
    return [most, _place(lowering, x, axes[0], keepdim)]


def lower_argmax(node: fx.Node, lowering: Lowering) -> Sum:
    """The first place of the largest integer."""
    axes, keepdim = _reduced(node, lowering)
    if len(axes) != 1:
        lowering.fail("it counts through all dims", "name the dim: argmax(dim=1)")
    return _place(lowering, lowering.integer(node.args[0]), axes[0], keepdim)


def _place(lowering: Lowering, x: Term, axis: int, keepdim: bool) -> Sum:
    name = f"{lowering.node.name}.place"
    return lowering.emit("argmax", (x.value,), 1.0, name=name, axis=axis, keepdim=keepdim)


def lower_average(node: fx.Node, lowering: Lowering) -> Sum:
    """A sum of integers; the division by the count goes into the multiplier."""
    op = str(lowering.context.op(node))
    x = lowering.integer(node.args[0])
    if op in ("mean", "sum"):
        axes, keepdim = _reduced(node, lowering)
        count = prod(lowering.shape(node.args[0])[a] for a in axes) if op == "mean" else 1
        return lowering.emit("reduce_sum", (x.value,), x.scale / count, axes=axes, keepdim=keepdim)
    if op.startswith("adaptive"):
        if set(lowering.shape()[2:]) == {1}:  # marches sum whole maps larger than their windows
            sizes = lowering.shape(node.args[0])[2:]
            axes = tuple(range(2, 2 + len(sizes)))
            scale = x.scale / prod(sizes)
            return lowering.emit("reduce_sum", (x.value,), scale, axes=axes, keepdim=True)
        spans = adaptive_spans(node, lowering.context)
        windows = even(spans)
        if not windows:
            return _average_spans(lowering, x, spans)
        counts = [window.counts(padded=True) for window in windows]
    else:
        windows = sliding_windows(node, lowering.context)
        counts, divisor = divisors(node, lowering.context, windows)
        x = Term(x.value, x.scale / divisor)
    return _average_pool(lowering, x, windows, counts)


# -- sliding windows ---------------------------------------------------------------------------


def _picture(lowering: Lowering, x: Term, name: str, *shape: int) -> Term:
    """The same integers in another shape."""
    name = f"{lowering.node.name}.{name}"
    return lowering.keep("reshape", x, name=name, shape=shape).terms[0]


def _max_pool(lowering: Lowering, x: Term, windows: list[Window]) -> Sum:
    """Height and width at once, a depth by itself: the largest of the largest."""
    shape = lowering.shape()[1:]
    if len(windows) == 2:
        return Sum((_max_picture(lowering, x, *windows),))
    channels, *sizes = lowering.builder.values[x.value].shape
    one = Window(1, 1, 1, 1, 0)
    if len(windows) == 1:
        x = _picture(lowering, x, "row", channels, 1, *sizes)
        x = _max_picture(lowering, x, one, windows[0])
    else:
        depth, height, width = windows
        x = _picture(lowering, x, "planes", channels * sizes[0], *sizes[1:])
        x = _max_picture(lowering, x, height, width)
        x = _picture(lowering, x, "depths", channels, sizes[0], height.out * width.out)
        area = height.out * width.out
        x = _max_picture(lowering, x, depth, Window(area, area, 1, 1, 0))
    return lowering.keep("reshape", x, shape=shape)


def _max_picture(lowering: Lowering, x: Term, height: Window, width: Window) -> Term:
    dilation = (height.dilation, width.dilation)
    return lowering.keep("max_pool", x, **_attrs(height, width), dilation=dilation).terms[0]


def _attrs(height: Window, width: Window) -> dict[str, Any]:
    return {
        "kernel": (height.kernel, width.kernel),
        "stride": (height.stride, width.stride),
        "padding": (height.padding, width.padding, height.beyond, width.beyond),
    }


def _average_pool(
    lowering: Lowering, x: Term, windows: list[Window], counts: list[tuple[int, ...]]
) -> Sum:
    """Sums of windows; counts: what each position along each dim is divided by."""
    alike = all(len(set(count)) == 1 for count in counts)
    if len(windows) == 2:
        sums = _sum_picture(lowering, x, *windows)
        return _divided(lowering, sums, counts[0], counts[1], alike)
    channels, *sizes = lowering.builder.values[x.value].shape
    if len(windows) == 1:
        x = _picture(lowering, x, "row", channels, 1, *sizes)
        x = _sum_picture(lowering, x, Window(1, 1, 1, 1, 0), windows[0])
        y = _divided(lowering, x, (1,), counts[0], alike)
        return lowering.keep("reshape", y.terms[0], shape=lowering.shape()[1:])
    depth, height, width = windows
    pictures = []
    taps = window_taps(depth.size, depth.out, depth.kernel, depth.stride, 1, depth.padding)
    for met, count in zip(taps, counts[0], strict=True):
        seen = as_columns(lowering, planes(lowering, x, met))
        seen = _sum_picture(lowering, seen, height, width.times(len(met)))
        seen = Term(seen.value, seen.scale / count)
        pictures.append(_divided(lowering, seen, counts[1], counts[2], alike).terms[0])
    return joined(lowering, pictures)


def _sum_picture(lowering: Lowering, x: Term, height: Window, width: Window) -> Term:
    name = f"{lowering.node.name}.sum"
    attrs = _attrs(height, width)
    return lowering.emit("sum_pool", (x.value,), x.scale, name=name, **attrs).terms[0]


def _divided(
    lowering: Lowering, x: Term, rows: tuple[int, ...], columns: tuple[int, ...], alike: bool
) -> Sum:
    """x (C, H, W) int32 divided by rows[h] * columns[w]: in its scale where all divisors of the
    tensor are alike, else by a requantization for every region of equal ones."""
    if alike:
        return Sum((Term(x.value, x.scale / (rows[0] * columns[0])),))
    target = lowering.target()
    if target is None:
        lowering.fail(
            "its windows at the border have other divisors, and nothing quantizes its result",
            "set quantize_output: true, or count_include_pad: true without ceil_mode",
            "QS703",
        )
    bands = []
    for top, bottom, row in _runs(rows):
        band = _cut(lowering, x, 2, top, bottom)
        parts = []
        for left, right, column in _runs(columns):
            part = _cut(lowering, band, 3, left, right)
            real = Sum((Term(part.value, x.scale / (row * column)),))
            parts.append(lowering.quantize(real, target, f"{lowering.node.name}.region"))
        bands.append(_concat(lowering, parts, 3))
    return _concat(lowering, bands, 2)


def _runs(counts: tuple[int, ...]) -> list[tuple[int, int, int]]:
    """(start, stop, count) of neighbours that are alike."""
    runs, start = [], 0
    for count, members in groupby(counts):
        stop = start + len(list(members))
        runs.append((start, stop, count))
        start = stop
    return runs


def _cut(lowering: Lowering, x: Term, axis: int, start: int, stop: int) -> Term:
    if (start, stop) == (0, lowering.builder.values[x.value].shape[axis - 1]):
        return x
    name = f"{lowering.node.name}.part"
    return lowering.keep("slice", x, name=name, axis=axis, start=start, stop=stop, step=1).terms[0]


def _concat(lowering: Lowering, parts: list[Sum], axis: int) -> Sum:
    if len(parts) == 1:
        return parts[0]
    names = [part.terms[0].value for part in parts]
    return lowering.emit("concat", names, parts[0].terms[0].scale, axis=axis)


# -- adaptive windows --------------------------------------------------------------------------


def _max_spans(lowering: Lowering, x: Term, spans: list[Spans]) -> Sum:
    """Dim by dim, window by window."""
    for axis, dim in enumerate(spans, 2):
        parts = [
            lowering.keep(
                "reduce_max",
                _cut(lowering, x, axis, *span),
                name=f"{lowering.node.name}.max",
                axes=(axis,),
                keepdim=True,
            )
            for span in dim
        ]
        x = _concat(lowering, parts, axis).terms[0]
    return Sum((x,))


def _average_spans(lowering: Lowering, x: Term, spans: list[Spans]) -> Sum:
    """Windows of different sizes as a matrix of integers over all positions."""
    matrix, divisor = averaging(spans)
    dtype: DType = "int8" if matrix.max() <= 127 else "int16"
    if matrix.max() > 32767:
        lowering.fail(
            "its windows have too many different sizes",
            "choose an output size that divides the input's",
        )
    channels = lowering.shape()[1]
    flat = _picture(lowering, x, "flat", channels, matrix.shape[1])
    weight = lowering.const("windows", dtype, matrix)
    name = f"{lowering.node.name}.sum"
    y = lowering.emit("linear", (flat.value, weight), x.scale / divisor, name=name)
    return lowering.keep("reshape", y.terms[0], shape=lowering.shape()[1:])


def _reduced(node: fx.Node, lowering: Lowering) -> tuple[tuple[int, ...], bool]:
    rank = len(lowering.shape(node.args[0]))
    dims = lowering.context.argument(node, 1, "dim")
    dims = range(rank) if dims is None else dims if isinstance(dims, (tuple, list)) else (dims,)
    axes = tuple(sorted(d % rank for d in dims))
    if lowering.layout(lowering.value(node.args[0]).terms[0]).batch in axes:
        lowering.fail("it reduces over the batch", "name the dims to reduce")
    return axes, bool(lowering.context.argument(node, 2, "keepdim", False))
