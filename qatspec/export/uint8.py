"""Activations of the Q/DQ graph as uint8, for onnxruntime on x86.

They are the integers of int8 (or of int4, clipped to its range) plus 128, on the same scale; those
of quint8 are as they are. x86
multiplies unsigned by signed bytes, and onnxruntime's fast kernels there take uint8 activations and
int8 weights alone. It runs a Relu, a Clip or a move between a DequantizeLinear and a QuantizeLinear
in float, so these are written on the integers themselves: a clamp commutes with rounding, and a
move changes no number.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
from torch import fx

from qatspec.graph.clamps import Bounds, bounds_of
from qatspec.ir import RANGE
from qatspec.qdq import QdqWriter
from qatspec.quant.fake_quant import FakeQuantize
from qatspec.types import OpTrait, QuantHandler, Shared

#: The uint8 that stands for 0, by the dtype of a fake-quant.
ZERO_POINTS = {"qint8": 128, "qint4": 128, "quint8": 0}


@dataclass(slots=True)
class Uint8:
    """Which results of the graph are dequantized integers.

    integers: name of a result -> name of its integers. grids: name of integers -> names of their
    scale and zero point. numbers: name of a scale or zero point -> its value.
    """

    writer: QdqWriter
    integers: dict[str, str] = field(default_factory=dict)
    grids: dict[str, list[str]] = field(default_factory=dict)
    numbers: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.writer.widen = self.widened

    def pair(self, node: fx.Node, x: str, fake_quant: FakeQuantize) -> str:
        """Write QuantizeLinear, the clamp before fake-quant `node` if there is one, and
        DequantizeLinear."""
        graph, context, source = (
            self.writer.graph,
            self.writer.context,
            cast("fx.Node", node.args[0]),
        )
        scale = fake_quant.scale.detach().reshape(()).numpy().astype(np.float32)
        zero_point = ZERO_POINTS[fake_quant.qspec.dtype]
        grid = [
            graph.const(f"{node.target}.scale", scale, np.float32),
            graph.const(f"{node.target}.zero_point", zero_point, np.uint8),
        ]
        self.numbers |= zip(grid, (np.float32(scale), zero_point), strict=True)
        is_clamp = self._is_clamp_of_fake_quant(source)
        bounds = bounds_of(source, context) if is_clamp else Bounds(None, None)
        levels = _levels(fake_quant.qspec.dtype, bounds, scale)
        clipped = levels != (0, 255)
        q = graph.node("QuantizeLinear", [x, *grid], f"{node.name}.{'rounded' if clipped else 'q'}")
        if clipped:
            q = self._clip(q, levels, f"{node.name}.q")
        return self._dequantized(q, grid, node.name)

    def written(self, node: fx.Node, handler: QuantHandler | None) -> Any:
        """Return the result of an op that is written on integers or needs no node; None for
        another op."""
        source = node.args[0] if node.args else None
        if self._is_clamp_of_fake_quant(node):
            return self.writer.operand(source)  # `pair` clamps the integers
        integers = self._sources(source)
        if not integers or handler is None:
            return None
        grid = self.grids[integers[0]]
        if OpTrait.CLAMP in handler.traits:
            bounds = bounds_of(node, self.writer.context)
            limits = (bounds.low, bounds.high)
            if not bounds.are_numbers or any(limits):  # a bound that may lie between two integers
                return None
            levels = [
                limit if b is None else self.numbers[grid[1]]
                for b, limit in zip(limits, (0, 255), strict=True)
            ]
            q = self._clip(integers[0], levels, f"{node.name}.q")
            return self._dequantized(q, grid, node.name)
        return self._moved(node, handler, grid) if self._moves(node, handler) else None

    def widened(self, x: str, more: int, name: str) -> str | None:
        """Write `more` channels of 0 behind those of result `x`, on its integers. Returns the
        result, called `name`; None where `x` is not dequantized integers."""
        if (q := self.integers.get(x)) is None:
            return None
        graph, grid = self.writer.graph, self.grids[q]
        pads = graph.const(f"{name}.pads", [0, 0, 0, 0, 0, more, 0, 0], np.int64)
        q = graph.node("Pad", [q, pads, grid[1]], f"{name}.q")
        return graph.node("DequantizeLinear", [q, *grid], name)

    def _moved(self, node: fx.Node, handler: QuantHandler, grid: list[str]) -> Any:
        """Let the handler write the op on its operands' integers, and dequantize the results."""
        writer, graph = self.writer, self.writer.graph
        before = len(graph.nodes)
        writer.carried = {name: q for name, q in self.integers.items() if self.grids[q] == grid}
        writer.carried_fill = lambda value: self._fill(value, grid)
        try:
            results = handler.to_onnx(node, writer)  # type: ignore[misc]
        finally:
            writer.carried = {}
        made = {name for written in graph.nodes[before:] for name in written.output}
        real = {q: name for name, q in self.integers.items()}
        results_written = []
        for name in results if isinstance(results, list) else [results]:
            if name not in made:  # the op changes nothing: its result is its operand
                results_written.append(real[name])
            else:
                results_written.append(
                    self._dequantized(graph.rename(name, f"{name}.q", before), grid, name)
                )
        return results_written if isinstance(results, list) else results_written[0]

    def _fill(self, value: float, grid: list[str]) -> str:
        """Return the name of the integer that a pad fills in, as QuantizeLinear rounds it."""
        if value == 0:
            return grid[1]
        scale, zero_point = (self.numbers[name] for name in grid)
        level = int(np.clip(np.rint(np.float32(value) / scale) + zero_point, 0, 255))
        return self.writer.graph.const("lowest" if level == 0 else "fill", level, np.uint8)

    def _moves(self, node: fx.Node, handler: QuantHandler) -> bool:
        """Return whether an op only moves numbers, on the scale of its operand."""
        if handler.to_onnx is None:
            return False
        if OpTrait.MOVES in handler.traits:
            return True
        if OpTrait.MOVES_WHERE_SHARED not in handler.traits:
            return False
        return isinstance(handler.annotate(node, self.writer.context).output, Shared)

    def _sources(self, source: Any) -> list[str]:
        """Integers of all tensors that an op takes, where they are of one grid; else nothing."""
        nodes = list(source) if isinstance(source, (tuple, list)) else [source]
        names = [self.writer.names.get(n) if isinstance(n, fx.Node) else None for n in nodes]
        quantized = [self.integers.get(name, "") for name in names if isinstance(name, str)]
        if len(quantized) < len(nodes) or not all(quantized):
            return []
        return (
            quantized if all(self.grids[q] == self.grids[quantized[0]] for q in quantized) else []
        )

    def _is_clamp_of_fake_quant(self, node: Any) -> bool:
        """Return whether the only reader of a clamp is a fake-quant to uint8, and its bounds are
        numbers."""
        context = self.writer.context
        if not isinstance(node, fx.Node) or not context.has_trait(node, OpTrait.CLAMP):
            return False
        reader = next(iter(node.users)) if len(node.users) == 1 else None
        fake_quant = None if reader is None else context.module(reader)
        return (
            isinstance(fake_quant, FakeQuantize)
            and fits(fake_quant)
            and bounds_of(node, context).are_numbers
        )

    def _clip(self, q: str, levels: Sequence[int], name: str) -> str:
        bounds = [self.writer.graph.const("bound", level, np.uint8) for level in levels]
        return self.writer.graph.node("Clip", [q, *bounds], name)

    def _dequantized(self, q: str, grid: list[str], name: str) -> str:
        name = self.writer.graph.node("DequantizeLinear", [q, *grid], name)
        self.integers[name], self.grids[q] = q, grid
        self.writer.steps[name] = self.numbers[grid[0]]
        return name


def fits(fake_quant: FakeQuantize) -> bool:
    """Return whether the integers of a fake-quant fit uint8."""
    return fake_quant.qspec.dtype in ZERO_POINTS and not fake_quant.disabled


def _levels(dtype: str, bounds: Bounds, scale: np.ndarray) -> tuple[int, int]:
    """Bounds of a clamp as QuantizeLinear rounds them, within the integers of `dtype`."""
    limits = RANGE[dtype.removeprefix("q")]
    rounded = [
        limit if bound is None else int(np.clip(np.rint(np.float32(bound) / scale), *limits))
        for bound, limit in zip((bounds.low, bounds.high), limits, strict=True)
    ]
    zero_point = ZERO_POINTS[dtype]
    return rounded[0] + zero_point, rounded[1] + zero_point
