"""The bounds of ops that bound their operand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import fx

from qatspec.graph.context import GraphContext


@dataclass(frozen=True, slots=True)
class _Clamp:
    x: Any
    min: Any = None
    max: Any = None


@dataclass(frozen=True, slots=True)
class _Hardtanh:
    x: Any
    min_val: float = -1.0
    max_val: float = 1.0


@dataclass(frozen=True, slots=True)
class Bounds:
    """Of a clamp: a number, None where there is no bound, or a node that gives a tensor."""

    low: Any
    high: Any

    @property
    def are_numbers(self) -> bool:
        return not isinstance(self.low, fx.Node) and not isinstance(self.high, fx.Node)


def bounds_of(node: fx.Node, context: GraphContext) -> Bounds:
    """The bounds of an op with the trait CLAMP."""
    op = context.op(node)
    if op == "hardtanh":
        hardtanh = context.call(node, _Hardtanh)
        return Bounds(hardtanh.min_val, hardtanh.max_val)
    if op == "clamp":
        clamp = context.call(node, _Clamp)
        return Bounds(clamp.min, clamp.max)
    return Bounds(0.0, 6.0 if op == "relu6" else None)
