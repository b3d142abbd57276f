"""Constants so large that nothing else is left of a range: -inf and its stand-ins (-1e9, -1e4)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, fx
from torch.utils import _pytree as pytree

from qatspec.diag import Diagnostic, DiagnosticError
from qatspec.graph.constants import evaluate
from qatspec.graph.sizes import is_plain
from qatspec.handlers.discarded import EXTREME, setting
from qatspec.prepare.unit import Group, Unit
from qatspec.types import Float, Observed

#: Ops with one range for all their operands.
_JOINS = ("add", "sub", "cat", "stack")
_EXTREMES = ("maximum", "minimum")
_PRODUCTS = ("mul", "div", "matmul")
_PAD = (
    "let a max pool, amax or relu read the padded tensor, so that the constant reaches no result; "
    "or pad with a number inside the range of the values"
)
_MASK = (
    "leave it out of the sum: multiply the softmax by a mask of 0 and 1 and divide it by its own "
    "sum; or use a constant inside the range of the values"
)
_FINITE = "use a constant inside the range of the values; F.pad(x, ..., value=...) for a padding"


def check_extremes(unit: Unit) -> None:
    """Refuse constants that would decide a range alone. Raises DiagnosticError QS613."""
    alone = _computed_alone(unit)
    found = []
    for group in unit.groups:
        if group.activation is None or isinstance(group.annotation.output, Float):
            continue
        for node in group.nodes:
            for value, help_ in _constants(unit, group, node, alone):
                found.append(_refused(unit, node, value, help_))
                break
    if found:
        raise DiagnosticError(found)


def _constants(
    unit: Unit, group: Group, node: fx.Node, alone: set[fx.Node]
) -> Iterator[tuple[float, str]]:
    """(constant, what to do) of each constant of the op that is too large."""
    op = unit.context.op(node)
    if op == "pad":
        _, mode, value = setting(node, unit.context)
        observed = isinstance(group.annotation.output, Observed)
        if mode == "constant" and observed and not abs(value) < EXTREME:
            yield value, _PAD
    limit = math.inf if op in _PRODUCTS else EXTREME
    if op not in (*_JOINS, *_EXTREMES, *_PRODUCTS):
        return
    for operand in pytree.tree_leaves(list(node.args)):
        largest = _largest(unit, operand, alone)
        one = op in _EXTREMES and _is_one_number(unit, operand)  # it becomes a bound
        if largest is not None and not abs(largest) < limit and not one:
            yield largest, _MASK if op in ("add", "sub") else _FINITE


def _largest(unit: Unit, operand: Any, alone: set[fx.Node]) -> float | None:
    """The number of the largest amount in a constant operand; None for other operands."""
    if isinstance(operand, fx.Node):
        if operand not in alone:
            return None
        operand = evaluate(unit.module, operand)
    if isinstance(operand, bool) or not isinstance(operand, (int, float, Tensor)):
        return None
    x = torch.as_tensor(operand)
    if not x.is_floating_point() and isinstance(operand, Tensor):
        return None
    return float(x.reshape(-1)[x.abs().argmax()]) if x.numel() else None


def _is_one_number(unit: Unit, operand: Any) -> bool:
    return isinstance(operand, fx.Node) and math.prod(unit.context.shape(operand)) == 1


def _computed_alone(unit: Unit) -> set[fx.Node]:
    """Nodes that depend on no number in an input: parameters, sizes, and what is made of such."""
    found: set[fx.Node] = set()
    for node in unit.graph.nodes:
        made = node.op.startswith("call_") and found.issuperset(node.all_input_nodes)
        if node.op == "get_attr" or made or is_plain(node.meta.get("example")):
            found.add(node)
    return found


def _refused(unit: Unit, node: fx.Node, value: float, help_: str) -> Diagnostic:
    return Diagnostic(
        code="QS613",
        message=f"`{unit.key(node)}` takes in the constant {value:g}: on a grid that reaches so "
        "far, nothing of the other numbers is left",
        help=help_,
        span=unit.span(node),
    )
