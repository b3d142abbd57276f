"""Activations of the Q/DQ graph as uint8 with zero point 128, for onnxruntime on x86.

They are the integers of int8 (or of int4, clipped to its range) plus 128, on the same scale. x86
multiplies unsigned by signed bytes, and onnxruntime's fast kernels there take uint8 activations and
int8 weights alone. It runs a Relu, a Clip or a move between a DequantizeLinear and a QuantizeLinear
in float, so these are written on the integers themselves: a clamp commutes with rounding, and a
move changes no number.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import fx

from qatspec.graph.ops import CLAMP_OPS
from qatspec.handlers.discarded import EXTREME, discards, setting
from qatspec.ir import RANGE
from qatspec.onnx.float_functions import clamp_bounds
from qatspec.quant.fake_quant import FakeQuantize

if TYPE_CHECKING:
    from qatspec.onnx.float_ops import Write
    from qatspec.onnx.qdq import QdqWriter

ZERO_POINT = 128
#: Ops that give nothing but numbers of their inputs, whose ONNX form takes uint8 as well.
_MOVES = frozenset(
    (
        "cat", "stack", "chunk", "split", "unbind", "reshape", "flatten", "squeeze", "unsqueeze",
        "permute", "transpose", "getitem", "expand", "pixel_shuffle", "pixel_unshuffle",
        "channel_shuffle", "max_pool1d", "max_pool2d", "max_pool3d",
    )
)  # fmt: skip


@dataclass(slots=True)
class Uint8:
    """Which results of the graph are dequantized integers.

    integers: name of a result -> name of its integers. grids: name of integers -> names of their
    scale and zero point. carried: results that an op being written takes as integers. weights:
    integers by layer, of those that become integer kernels.
    """

    writer: QdqWriter
    integers: dict[str, str] = field(default_factory=dict)
    grids: dict[str, list[str]] = field(default_factory=dict)
    carried: dict[str, str] = field(default_factory=dict)
    weights: dict[str, np.ndarray] = field(default_factory=dict)

    def pair(self, node: fx.Node, x: str, fake_quant: FakeQuantize) -> str:
        """QuantizeLinear, the clamp in front of fake-quant `node` if there is one, and
        DequantizeLinear."""
        w, source = self.writer.w, node.args[0]
        scale = fake_quant.scale.detach().reshape(()).numpy().astype(np.float32)
        grid = [
            w.const(f"{node.target}.scale", scale, np.float32),
            w.const(f"{node.target}.zero_point", ZERO_POINT, np.uint8),
        ]
        bounds = self._bounds(source) if self._is_clamp_of_fake_quant(source) else None
        levels = _levels(fake_quant.qspec.dtype, bounds or (None, None), scale)
        clipped = levels != (0, 255)
        q = w.node("QuantizeLinear", [x, *grid], f"{node.name}.{'rounded' if clipped else 'q'}")
        if clipped:
            q = self._clip(q, levels, f"{node.name}.q")
        return self._dequantized(q, grid, node.name)

    def written(self, node: fx.Node, write: Write | None) -> Any:
        """The result of an op that is written on integers, or needs no node; None of another."""
        source, op = node.args[0] if node.args else None, self.writer.context.op(node)
        if self._is_clamp_of_fake_quant(node):
            return self.writer.operand(source)  # `pair` clamps the integers
        integers = self._sources(source)
        if not integers:
            return None
        grid = self.grids[integers[0]]
        if op in CLAMP_OPS:
            bounds = self._bounds(node)
            if bounds is None or any(bounds):  # a bound that may lie between two integers
                return None
            levels = [
                limit if b is None else ZERO_POINT
                for b, limit in zip(bounds, (0, 255), strict=True)
            ]
            q = self._clip(integers[0], levels, f"{node.name}.q")
            return self._dequantized(q, grid, node.name)
        if write is None or not self._moves(node, op):
            return None
        return self._moved(node, write, grid)

    def _moved(self, node: fx.Node, write: Write, grid: list[str]) -> Any:
        """What `write` gives on the integers of its operands, dequantized."""
        w, before = self.writer.w, len(self.writer.w.nodes)
        self.carried = {name: q for name, q in self.integers.items() if self.grids[q] == grid}
        try:
            results = write(self.writer, node)
        finally:
            self.carried = {}
        made = {name for written in w.nodes[before:] for name in written.output}
        real = {q: name for name, q in self.integers.items()}
        found = []
        for name in results if isinstance(results, list) else [results]:
            if name not in made:  # all of a source
                found.append(real[name])
            else:
                found.append(self._dequantized(w.rename(name, f"{name}.q", before), grid, name))
        return found if isinstance(results, list) else found[0]

    def fill(self, value: float) -> str:
        """What a Pad of integers fills in: the integer of 0.0, or the lowest in place of a number
        that a later maximum discards."""
        zero_point = self.grids[next(iter(self.carried.values()))][1]
        return zero_point if value == 0 else self.writer.w.const("lowest", 0, np.uint8)

    def _moves(self, node: fx.Node, op: str | None) -> bool:
        context = self.writer.context
        if op == "interpolate":
            return str(context.setting(node, 3, "mode", "nearest")).startswith("nearest")
        if op == "pad":
            _, mode, value = setting(node, context)
            infinite = value <= -EXTREME and discards(node, context)
            return mode != "constant" or value == 0 or infinite
        return op in _MOVES

    def _sources(self, source: Any) -> list[str]:
        """Integers of all tensors that an op takes, where they are of one grid; else nothing."""
        nodes = list(source) if isinstance(source, (tuple, list)) else [source]
        names = [self.writer.names.get(n) if isinstance(n, fx.Node) else None for n in nodes]
        found = [self.integers.get(name, "") for name in names if isinstance(name, str)]
        if len(found) < len(nodes) or not all(found):
            return []
        return found if all(self.grids[q] == self.grids[found[0]] for q in found) else []

    def _is_clamp_of_fake_quant(self, node: Any) -> bool:
        """Does a fake-quant of such integers alone read this clamp, and are its bounds numbers?"""
        if not isinstance(node, fx.Node) or self.writer.context.op(node) not in CLAMP_OPS:
            return False
        reader = next(iter(node.users)) if len(node.users) == 1 else None
        fake_quant = None if reader is None else self.writer.context.module(reader)
        return (
            isinstance(fake_quant, FakeQuantize)
            and fits(fake_quant)
            and self._bounds(node) is not None
        )

    def _bounds(self, node: Any) -> tuple[float | None, float | None] | None:
        """Bounds of a clamp; None where they are tensors."""
        low, high = clamp_bounds(self.writer, node)
        return None if isinstance(low, fx.Node) or isinstance(high, fx.Node) else (low, high)

    def _clip(self, q: str, levels: Sequence[int], name: str) -> str:
        bounds = [self.writer.w.const("bound", level, np.uint8) for level in levels]
        return self.writer.w.node("Clip", [q, *bounds], name)

    def _dequantized(self, q: str, grid: list[str], name: str) -> str:
        name = self.writer.w.node("DequantizeLinear", [q, *grid], name)
        self.integers[name], self.grids[q] = q, grid
        return name


def fits(fake_quant: FakeQuantize) -> bool:
    """Does this fake-quant give integers that uint8 holds?"""
    return fake_quant.qspec.dtype in ("qint8", "qint4") and not fake_quant.disabled


def _levels(
    dtype: str, bounds: tuple[float | None, float | None], scale: np.ndarray
) -> tuple[int, int]:
    """Bounds of a clamp as QuantizeLinear rounds them, within the integers of `dtype`."""
    limits = RANGE[dtype.removeprefix("q")]
    rounded = [
        limit if bound is None else int(np.clip(np.rint(np.float32(bound) / scale), *limits))
        for bound, limit in zip(bounds, limits, strict=True)
    ]
    return rounded[0] + ZERO_POINT, rounded[1] + ZERO_POINT
