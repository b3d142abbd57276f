"""The bounds of ops that bound their operand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import fx

from qatspec.graph.context import GraphContext
from qatspec.types import OpTrait


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


#: Ops that give no negative number where their operands hold none.
_KEEPING_SIGN = (OpTrait.MOVES, OpTrait.MAXIMUM, OpTrait.AVERAGES)


def is_nonnegative(node: fx.Node, context: GraphContext) -> bool:
    """Return whether no number of a tensor can be negative, whatever the input: it is bounded at 0
    or above, or holds numbers and averages of such tensors alone."""
    waiting, visited = [node], {node}
    while waiting:  # a graph may be deeper than Python's stack
        here = waiting.pop()
        operands = [n for n in here.all_input_nodes if context.carries_float(n)]
        if context.has_trait(here, OpTrait.CLAMP):
            bounds = bounds_of(here, context)
            if not bounds.are_numbers or (bounds.high is not None and bounds.high < 0):
                return False
            bounded = bounds.low is not None and bounds.low >= 0
            operands = [] if bounded else operands[:1]
        elif not any(context.has_trait(here, trait) for trait in _KEEPING_SIGN):
            return False
        waiting += [n for n in operands if n not in visited]
        visited.update(operands)
    return True
