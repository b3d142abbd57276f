"""The windows of poolings: sliding and adaptive ones, of one to three spatial dims."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import fx

from qatspec.graph.context import GraphContext


@dataclass(frozen=True, slots=True)
class Window:
    """One spatial dim of a pooling over `size` positions: `out` windows of `kernel` positions."""

    size: int
    out: int
    kernel: int
    stride: int
    padding: int
    dilation: int = 1

    @property
    def beyond(self) -> int:
        """Padding at the far end, ceil_mode's included."""
        reach = (self.out - 1) * self.stride + self.dilation * (self.kernel - 1) + 1
        return max(self.padding, reach - self.size - self.padding)

    def over_padded(self) -> Window:
        """The same windows over positions that hold the padding already."""
        size = self.padding + self.size + self.beyond
        return Window(size, self.out, self.kernel, self.stride, 0, self.dilation)

    def times(self, factor: int) -> Window:
        """Over `factor` times as many positions, side by side."""
        return Window(
            self.size * factor, self.out, self.kernel * factor, self.stride * factor,
            self.padding * factor,
        )  # fmt: skip

    def counts(self, *, padded: bool) -> tuple[int, ...]:
        """What each window is divided by, as torch defines it: positions of the input, and of its
        own padding where `padded`; never what ceil_mode adds."""
        first = np.arange(self.out) * self.stride - self.padding
        last = np.minimum(first + self.kernel, self.size + self.padding)
        if not padded:
            first, last = np.maximum(first, 0), np.minimum(last, self.size)
        return tuple(int(n) for n in last - first)


@dataclass(frozen=True, slots=True)
class _MaxPool:
    x: Any
    kernel_size: Any
    stride: Any = None
    padding: Any = 0
    dilation: Any = 1


@dataclass(frozen=True, slots=True)
class _AveragePool:
    x: Any
    kernel_size: Any
    stride: Any = None
    padding: Any = 0
    ceil_mode: bool = False
    count_include_pad: bool = True
    divisor_override: int | None = None


def max_windows(node: fx.Node, context: GraphContext) -> list[Window]:
    """Every spatial dim of a max pool."""
    call = context.call(node, _MaxPool)
    return _sliding(node, context, call, call.dilation)


@dataclass(frozen=True, slots=True)
class Averages:
    """The windows of an average pool: along each spatial dim, each position is divided by its
    `counts`, and everywhere by `divisor`."""

    windows: list[Window]
    counts: list[tuple[int, ...]]
    divisor: int = 1


def averages(node: fx.Node, context: GraphContext) -> Averages:
    """Every spatial dim of an average pool."""
    call = context.call(node, _AveragePool)
    windows = _sliding(node, context, call, 1)
    if call.divisor_override:
        ones = [(1,) * window.out for window in windows]
        return Averages(windows, ones, int(call.divisor_override))
    padded = bool(call.count_include_pad)
    return Averages(windows, [window.counts(padded=padded) for window in windows])


def _sliding(
    node: fx.Node, context: GraphContext, call: _MaxPool | _AveragePool, dilation: Any
) -> list[Window]:
    dims = int(str(context.op(node))[-2])
    kernel = _each(call.kernel_size, dims)
    stride = kernel if call.stride in (None, [], ()) else _each(call.stride, dims)
    settings = (kernel, stride, _each(call.padding, dims), _each(dilation, dims))
    sizes, results = (context.shape(n)[-dims:] for n in (node.args[0], node))
    return [Window(*numbers) for numbers in zip(sizes, results, *settings, strict=True)]


def _each(value: Any, dims: int) -> tuple[int, ...]:
    values = tuple(value) if isinstance(value, (tuple, list)) else (value,)
    return values * dims if len(values) == 1 else values


#: [first, last) of every window of a dim.
Spans = list[tuple[int, int]]


def adaptive_spans(node: fx.Node, context: GraphContext) -> list[Spans]:
    """Every spatial dim's windows: floor(i * size / out) to ceil((i + 1) * size / out)."""
    dims = int(str(context.op(node))[-2])
    sizes, results = (context.shape(n)[-dims:] for n in (node.args[0], node))
    return [
        [(i * size // out, -(-(i + 1) * size // out)) for i in range(out)]
        for size, out in zip(sizes, results, strict=True)
    ]


def even(spans: list[Spans]) -> list[Window]:
    """Sliding windows where every dim divides into equal ones, else none."""
    if any(dim[-1][1] % len(dim) for dim in spans):
        return []
    return [Window(dim[-1][1], len(dim), dim[0][1], dim[0][1], 0) for dim in spans]


def averaging(spans: list[Spans]) -> tuple[np.ndarray, int]:
    """(M, divisor): M / divisor (outputs, positions) averages windows of different sizes; the least
    common multiple of the sizes makes every entry of M an integer."""
    matrix, divisor = np.ones((1, 1), np.int64), 1
    for dim in spans:
        common = int(np.lcm.reduce([last - first for first, last in dim]))
        rows = np.zeros((len(dim), dim[-1][1]), np.int64)
        for row, (first, last) in zip(rows, dim, strict=True):
            row[first:last] = common // (last - first)
        matrix, divisor = np.kron(matrix, rows), divisor * common
    return matrix, divisor
