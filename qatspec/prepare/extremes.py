"""Constants that are too large for a range: -inf, and numbers that are used for it (-1e9, -1e4)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, fx
from torch.utils import _pytree as pytree

from qatspec.diag import Diagnostic, DiagnosticError
from qatspec.diag.codes import QS613
from qatspec.graph.constants import evaluate
from qatspec.graph.discarded import EXTREME, padding_of
from qatspec.graph.sizes import is_plain
from qatspec.prepare.unit import FusedOps, Unit
from qatspec.types import Float, Observed, OpTrait

#: Traits of ops into whose result, or its range, a constant operand enters.
_ENTERED = (OpTrait.SUMS, OpTrait.JOINS, OpTrait.PICKS, OpTrait.PRODUCTS)
#: Ops without a handler that put constants into a tensor, which a quantized reader observes.
_FILLS = ("masked_fill", "masked_fill_", "where")
#: Constants from this size on are reported: values inside a net are usually smaller.
_FAR = 50.0
_PAD = (
    "let a max pool, amax or relu read the padded tensor, so that the constant reaches no result; "
    "or pad with a number inside the range of the values"
)
_MASK = (
    "let a softmax alone read the sum; or leave it out of the sum: multiply the softmax by a mask "
    "of 0 and 1 and divide it by its own sum; or use a constant inside the range of the values"
)
_FACTOR = (
    "multiply the mask by a number inside the range of the scores, such as -24: its share in the "
    "softmax is e**-24"
)
_FINITE = "use a constant inside the range of the values; F.pad(x, ..., value=...) for a padding"


def check_extremes(unit: Unit) -> None:
    """Warn of constants that may alone decide the range of a tensor.

    Raises DiagnosticError QS613 for constants that do."""
    alone = _computed_alone(unit)
    quantized = {
        node
        for group in unit.groups
        if group.activation is not None and not isinstance(group.annotation.output, Float)
        for node in group.nodes
    }
    errors: list[Diagnostic] = []
    for group in unit.groups:
        for node in group.nodes:
            fills = unit.context.label(node) in _FILLS and not quantized.isdisjoint(node.users)
            if node not in quantized and not fills:
                continue
            for value, help_ in _constants(unit, group, node, alone):
                problem = _problem(unit, node, value, help_)
                (unit.warnings if problem.severity == "warning" else errors).append(problem)
                break
    if errors:
        raise DiagnosticError(errors)


def _constants(
    unit: Unit, group: FusedOps, node: fx.Node, alone: set[fx.Node]
) -> Iterator[tuple[float, str]]:
    """Yield (constant, how to fix it) of each constant of the op that is too large."""
    op = unit.context.label(node)
    if op == "pad":
        padding = padding_of(node, unit.context)
        observed = isinstance(group.annotation.output, Observed)
        if padding.mode == "constant" and observed and not abs(padding.value) < _FAR:
            yield padding.value, _PAD
    traits = {trait for trait in _ENTERED if unit.context.has_trait(node, trait)}
    if not traits and op not in _FILLS:
        return
    for operand in pytree.tree_leaves([list(node.args), node.kwargs]):
        x = _constant(unit, operand, alone)
        one = OpTrait.PICKS in traits and _is_one_number(unit, operand)  # it becomes a bound
        if x is None or one:
            continue
        largest = float(x.reshape(-1)[x.abs().argmax()])
        if OpTrait.PRODUCTS in traits and -math.inf < largest <= -EXTREME:
            if _is_mask_of_scores(unit, node):
                yield largest, _FACTOR
            continue
        limit = math.inf if OpTrait.PRODUCTS in traits else _FAR
        if OpTrait.SUMS in traits and not _is_mask(x):
            limit = EXTREME
        if not abs(largest) < limit:
            yield largest, _MASK if OpTrait.SUMS in traits or op in _FILLS else _FINITE


def _is_mask(x: Tensor) -> bool:
    """Whether adding `x` moves some numbers far and leaves others."""
    return x.numel() > 1 and float(x.abs().min()) < 1 and bool((x.abs() >= _FAR).any())


def _is_mask_of_scores(unit: Unit, node: fx.Node) -> bool:
    """Whether a node is added to what softmaxes alone read: a mask that an input gives."""
    context = unit.context

    def readers(node: fx.Node) -> Iterator[fx.Node]:
        for user in node.users:
            if user.target is not getattr:
                moves = context.has_trait(user, OpTrait.REARRANGES)
                yield from readers(user) if moves else [user]

    sums = list(readers(node))
    return bool(sums) and all(
        context.has_trait(n, OpTrait.SUMS)
        and {context.label(reader) for reader in readers(n)} == {"softmax"}
        for n in sums
    )


def _constant(unit: Unit, operand: Any, alone: set[fx.Node]) -> Tensor | None:
    """The value of a constant operand, None for other operands."""
    if isinstance(operand, fx.Node):
        if operand not in alone:
            return None
        operand = evaluate(unit.module, operand)
    if isinstance(operand, bool) or not isinstance(operand, (int, float, Tensor)):
        return None
    x = torch.as_tensor(operand)
    if not x.is_floating_point() and isinstance(operand, Tensor):
        return None
    return x if x.numel() else None


def _is_one_number(unit: Unit, operand: Any) -> bool:
    return isinstance(operand, fx.Node) and math.prod(unit.context.shape(operand)) == 1


def _computed_alone(unit: Unit) -> set[fx.Node]:
    """The nodes that depend on no value of an input: parameters, sizes, and results of those."""
    alone: set[fx.Node] = set()
    for node in unit.graph.nodes:
        made = node.op.startswith("call_") and alone.issuperset(node.all_input_nodes)
        if node.op == "get_attr" or made or is_plain(node.meta.get("example")):
            alone.add(node)
    return alone


def _problem(unit: Unit, node: fx.Node, value: float, help_: str) -> Diagnostic:
    """An error for a constant that is used for infinity, a warning for a smaller one and for a
    factor of a mask."""
    product = unit.context.has_trait(node, OpTrait.PRODUCTS)
    far = not product and abs(value) < EXTREME
    effect = (
        "if the other numbers do not reach so far, the steps of the grid are too coarse for them"
        if far
        else "on a grid that reaches so far, nothing of the other numbers is left"
    )
    return QS613.diagnostic(
        f"`{unit.key(node)}` takes in the constant {value:g}: {effect}",
        help=help_,
        span=unit.span(node),
        severity="warning" if far or (product and math.isfinite(value)) else "error",
        subject=f"`{unit.key(node)}`",
    )
