"""Pooling in integers, over one to three spatial dims."""

from __future__ import annotations

from itertools import groupby
from math import prod
from typing import Any

from torch import fx

from qatspec.diag.codes import QS703
from qatspec.graph.context import GraphContext
from qatspec.graph.discarded import may_pass
from qatspec.ir import DType
from qatspec.lowering import (
    Lowering,
    ScaledInts,
    as_columns,
    concatenated,
    cut,
    joined,
    planes,
    window_taps,
)
from qatspec.ops.pools.windows import (
    Spans,
    Window,
    adaptive_spans,
    averages,
    averaging,
    even,
    max_windows,
)
from qatspec.types import Annotation, Observed, Shared


def annotate_max(node: fx.Node, context: GraphContext) -> Annotation:
    """A maximum is one of its inputs: exactly the input's scale. Behind padding whose constant
    may be the largest, a range of its own."""
    return Annotation(output=Observed() if may_pass(node, context) else Shared())


def annotate_average(node: fx.Node, context: GraphContext) -> Annotation:
    """An average needs a finer grid than its input: a range of its own."""
    return Annotation(output=Observed())


def lower_max_pool(node: fx.Node, lowering: Lowering) -> ScaledInts:
    """The largest integer is the largest number."""
    x = _maxima_of(node, lowering)
    return _max_pool(lowering, x, max_windows(node, lowering.context))


def lower_adaptive_max(node: fx.Node, lowering: Lowering) -> ScaledInts:
    x = _maxima_of(node, lowering)
    spans = adaptive_spans(node, lowering.context)
    windows = even(spans)
    return _max_pool(lowering, x, windows) if windows else _max_spans(lowering, x, spans)


def _maxima_of(node: fx.Node, lowering: Lowering) -> ScaledInts:
    if isinstance(lowering.context.value(node), (tuple, list)):
        op = lowering.context.op(node)
        lowering.fail(f"{op} with indices has no integer form", "ask for the values alone")
    return lowering.small_integers(node.args[0])


def lower_average_pool(node: fx.Node, lowering: Lowering) -> ScaledInts:
    """A sum of integers; the division by the count goes into the multiplier."""
    x, average = lowering.small_integers(node.args[0]), averages(node, lowering.context)
    x = ScaledInts(x.value, x.scale / average.divisor)
    return _average_pool(lowering, x, average.windows, average.counts)


def lower_adaptive_average(node: fx.Node, lowering: Lowering) -> ScaledInts:
    x = lowering.small_integers(node.args[0])
    if set(lowering.shape()[2:]) == {1}:  # marches sum whole maps larger than their windows
        sizes = lowering.shape(node.args[0])[2:]
        axes = tuple(range(2, 2 + len(sizes)))
        return lowering.emit(
            "reduce_sum", (x.value,), x.scale / prod(sizes), axes=axes, keepdim=True
        )
    spans = adaptive_spans(node, lowering.context)
    windows = even(spans)
    if not windows:
        return _average_spans(lowering, x, spans)
    return _average_pool(lowering, x, windows, [window.counts(padded=True) for window in windows])


# -- sliding windows ---------------------------------------------------------------------------


def _picture(lowering: Lowering, x: ScaledInts, name: str, *shape: int) -> ScaledInts:
    """The same integers in another shape."""
    name = f"{lowering.node.name}.{name}"
    return lowering.emit_same_scale("reshape", x, name=name, shape=shape)


def _max_pool(lowering: Lowering, x: ScaledInts, windows: list[Window]) -> ScaledInts:
    """Height and width at once, a depth by itself: the largest of the largest."""
    if len(windows) == 2:
        return _max_picture(lowering, x, *windows)
    channels, *sizes = lowering.value_shape(x)
    shape = (channels, *lowering.shape()[2:])
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
    return lowering.emit_same_scale("reshape", x, shape=shape)


def _max_picture(lowering: Lowering, x: ScaledInts, height: Window, width: Window) -> ScaledInts:
    dilation = (height.dilation, width.dilation)
    return lowering.emit_same_scale("max_pool", x, **_attrs(height, width), dilation=dilation)


def _attrs(height: Window, width: Window) -> dict[str, Any]:
    return {
        "kernel": (height.kernel, width.kernel),
        "stride": (height.stride, width.stride),
        "padding": (height.padding, width.padding, height.beyond, width.beyond),
    }


def _average_pool(
    lowering: Lowering, x: ScaledInts, windows: list[Window], counts: list[tuple[int, ...]]
) -> ScaledInts:
    """Sums of windows; counts: what each position along each dim is divided by."""
    alike = all(len(set(count)) == 1 for count in counts)
    if len(windows) == 2:
        sums = _sum_picture(lowering, x, *windows)
        return _divided(lowering, sums, counts[0], counts[1], alike)
    channels, *sizes = lowering.value_shape(x)
    if len(windows) == 1:
        x = _picture(lowering, x, "row", channels, 1, *sizes)
        x = _sum_picture(lowering, x, Window(1, 1, 1, 1, 0), windows[0])
        y = _divided(lowering, x, (1,), counts[0], alike)
        shape = (channels, *lowering.shape()[2:])
        return lowering.emit_same_scale("reshape", y, shape=shape)
    depth, height, width = windows
    pictures = []
    taps = window_taps(depth.size, depth.out, depth.kernel, depth.stride, 1, depth.padding)
    for depth_taps, count in zip(taps, counts[0], strict=True):
        y = as_columns(lowering, planes(lowering, x, depth_taps))
        y = _sum_picture(lowering, y, height, width.times(len(depth_taps)))
        y = ScaledInts(y.value, y.scale / count)
        pictures.append(_divided(lowering, y, counts[1], counts[2], alike))
    return joined(lowering, pictures)


def _sum_picture(lowering: Lowering, x: ScaledInts, height: Window, width: Window) -> ScaledInts:
    name = f"{lowering.node.name}.sum"
    attrs = _attrs(height, width)
    return lowering.emit("sum_pool", (x.value,), x.scale, name=name, **attrs)


def _divided(
    lowering: Lowering, x: ScaledInts, rows: tuple[int, ...], columns: tuple[int, ...], alike: bool
) -> ScaledInts:
    """x (C, H, W) int32 divided by rows[h] * columns[w]: in its scale where all divisors of the
    tensor are alike, else by a requantization for every region of equal ones."""
    if alike:
        return ScaledInts(x.value, x.scale / (rows[0] * columns[0]))
    grid = lowering.grid()
    if grid is None:
        lowering.fail(
            "its windows at the border have other divisors, and nothing quantizes its result",
            "set quantize_output: true, or count_include_pad: true without ceil_mode",
            QS703,
        )
    bands = []
    for top, bottom, row in _runs(rows):
        band = _cut(lowering, x, 2, top, bottom)
        parts = []
        for left, right, column in _runs(columns):
            part = _cut(lowering, band, 3, left, right)
            real = ScaledInts(part.value, x.scale / (row * column))
            parts.append(lowering.quantize(real, grid, f"{lowering.node.name}.region"))
        bands.append(concatenated(lowering, parts, 3))
    return concatenated(lowering, bands, 2)


def _runs(counts: tuple[int, ...]) -> list[tuple[int, int, int]]:
    """(start, stop, count) of neighbours that are alike."""
    runs, start = [], 0
    for count, members in groupby(counts):
        stop = start + len(list(members))
        runs.append((start, stop, count))
        start = stop
    return runs


def _cut(lowering: Lowering, x: ScaledInts, axis: int, start: int, stop: int) -> ScaledInts:
    size = lowering.value_shape(x)[axis - 1]
    return cut(lowering, x, axis, slice(start, stop), size, f"{lowering.node.name}.part")


# -- adaptive windows --------------------------------------------------------------------------


def _max_spans(lowering: Lowering, x: ScaledInts, spans: list[Spans]) -> ScaledInts:
    """Dim by dim, window by window."""
    for axis, dim in enumerate(spans, 2):
        parts = [
            lowering.emit_same_scale(
                "reduce_max",
                _cut(lowering, x, axis, *span),
                name=f"{lowering.node.name}.max",
                axes=(axis,),
                keepdim=True,
            )
            for span in dim
        ]
        x = concatenated(lowering, parts, axis)
    return x


def _average_spans(lowering: Lowering, x: ScaledInts, spans: list[Spans]) -> ScaledInts:
    """Windows of different sizes as a matrix of integers over all positions."""
    matrix, divisor = averaging(spans)
    dtype: DType = "int8" if matrix.max() <= 127 else "int16"
    if matrix.max() > 32767:
        lowering.fail(
            "its windows have too many different sizes",
            "choose an output size that divides the input's",
        )
    channels = lowering.value_shape(x)[0]
    flat = _picture(lowering, x, "flat", channels, matrix.shape[1])
    weight = lowering.const("windows", dtype, matrix)
    name = f"{lowering.node.name}.sum"
    y = lowering.emit("linear", (flat.value, weight), x.scale / divisor, name=name)
    shape = (channels, *lowering.shape()[2:])
    return lowering.emit_same_scale("reshape", y, shape=shape)
