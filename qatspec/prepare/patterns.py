"""The checks of the built-in fuse patterns: when a chain must not be fused, and why."""

from __future__ import annotations

from torch import fx

from qatspec.graph.ops import has_trait
from qatspec.prepare.fuse import Match
from qatspec.types import OpTrait


def check_chain(match: Match) -> str | None:
    """Return why a chain must not be fused, None where it may: why its batch norm cannot be folded,
    or why its addition cannot be computed with the conv."""
    for position in range(1, len(match.nodes)):
        op = match.op(position)
        if has_trait(op, OpTrait.BATCH_NORM):
            reason = _norm(match, position)
        elif op == "add":
            reason = _addition(match, position)
        else:
            reason = None
        if reason:
            return reason
    return None


def _norm(match: Match, position: int) -> str | None:
    context = match.unit.context
    conv, norm = context.module(match.nodes[0]), context.module(match.nodes[position])
    if conv is None or norm is None:
        return "its weight is computed from the input"
    if context.op(match.nodes[0]) == "linear" and context.value(match.nodes[0]).ndim != 2:
        return "the batch norm's channels are not the linear's features"
    if getattr(norm, "track_running_stats", True) is False:
        return "the batch norm has no running statistics"  # refused by the tracer: QS503
    for other in match.unit.calls_by_module[id(norm)]:
        if context.module(other.all_input_nodes[0]) is not conv:
            return "the batch norm also stands behind something else"  # one scale for each weight
    return None


def _addition(match: Match, position: int) -> str | None:
    """The addition is computed with the conv, so its other operand must be computed before."""
    if not match.unit.fused_add:
        return "the march rounds before it adds"
    context = match.unit.context
    before, node = match.nodes[position - 1], match.nodes[position]
    if node.kwargs.get("alpha", 1) != 1:
        return "the addition scales its second operand"
    others = [a for a in node.args if isinstance(a, fx.Node) and a is not before]
    if len(others) != 1 or not context.is_float_tensor(others[0]):
        return "the addition's other operand is not a tensor of the model"
    other = others[0]
    if other.op == "get_attr":
        return "the addition's other operand is a parameter"
    if context.shape(other) != context.shape(before):
        return "the addition broadcasts"
    if other > match.nodes[0]:  # by position in the graph
        return f"its other operand `{other.name}` is computed later"
    return None
