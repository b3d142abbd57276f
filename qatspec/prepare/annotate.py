"""Ask each op's quant handler how its result is quantized. The graph is not changed."""

from __future__ import annotations

from collections.abc import Mapping

from torch import fx, nn

from qatspec.diag.codes import QS606, QS607, QS608
from qatspec.graph.advice import without_integers
from qatspec.graph.integer_inputs import REASON, reading_integers
from qatspec.graph.refusals import REFUSED
from qatspec.graph.sizes import is_plain
from qatspec.prepare.unit import FusedOps, Unit
from qatspec.registry import registry
from qatspec.types import Annotation, Float, Shared


def annotate(unit: Unit) -> None:
    """Fill each group's annotation. Groups without a float tensor (shape arithmetic) are removed.

    Warnings: QS606 for a batch norm that is not folded, QS607 for a rule without effect, QS608 for
    an op that stays in float. Raises PluginFault for what a handler raises.
    """
    unit.groups = [g for g in unit.groups if unit.context.carries_float(g.last)]
    by_last = {group.last: group for group in unit.groups}
    on_host = reading_integers(unit.context)
    for group in unit.groups:
        if unit.context.is_returned_constant(group.anchor):
            group.annotation = Annotation(output=Float("the same for all images"), inputs=())
            continue
        if group.anchor in on_host:
            group.annotation = Annotation(output=Float(REASON), inputs=())
            continue
        custom = unit.custom.annotation(group.nodes, group.by_fuser, unit.context, unit.at)
        group.annotation = custom or _intent(unit, group.anchor)
        _warn_of_float(unit, group)
        if isinstance(unit.context.module(group.anchor), nn.modules.batchnorm._BatchNorm):
            _warn_of_norm(unit, group, by_last)
        _warn_of_members(unit, group)


def _intent(unit: Unit, node: fx.Node) -> Annotation:
    if node.op == "call_module" and node.target in unit.standalone:
        # The unit inside quantizes its own result.
        return Annotation(output=Shared(), inputs=tuple(range(len(node.args))))
    if node is unit.end:
        return Annotation(output=Float("training and evaluation compute it differently"), inputs=())
    op = unit.context.op(node)
    handler = registry().handler_for(op) if op else None
    if handler is None:
        reason = f"no quant handler knows `{unit.context.label(node)}`"
        return Annotation(output=Float(reason), inputs=())
    special = _float_on_march(unit, node)
    if special is not None:
        return Annotation(output=Float(special), inputs=())
    with registry().attribute_errors(
        handler, f"handler `{handler.name}`, annotating `{node.name}`,"
    ):
        nodes = len(unit.graph.nodes)
        annotation = handler.annotate(node, unit.context)
        if len(unit.graph.nodes) != nodes:
            raise ValueError("annotate changes the graph")
        if not isinstance(annotation, Annotation):
            raise TypeError(f"annotate gave {annotation!r}, which is no Annotation")
    return annotation


def _float_on_march(unit: Unit, node: fx.Node) -> str | None:
    """Why the march computes the op in float, where the preset asks for its special cases."""
    march, op = unit.context.march, unit.context.op(node)
    reason = registry().march(march).float_ops.get(op) if march and op else None
    if reason is None or (op == "matmul" and unit.context.is_constant(node.all_input_nodes[-1])):
        return None  # a product with a matrix of parameters is a linear layer
    return f"{march}: {reason}"


def _made_of_sizes(node: fx.Node) -> bool:
    """Whether the numbers are the same for every image: its reader quantizes the constant."""
    return all(is_plain(operand.meta.get("example")) for operand in node.all_input_nodes)


def _warn_of_float(unit: Unit, group: FusedOps) -> None:
    intent = group.annotation.output
    reported = (
        _made_of_sizes(group.anchor) or group.anchor is unit.end or group.anchor.meta.get(REFUSED)
    )
    if isinstance(intent, Float) and group.activation is not None and not reported:
        op = unit.context.op(group.anchor)
        handler = registry().handler_for(op) if op else None
        unit.warnings.append(
            QS608.warning(
                f"`{unit.key(group.anchor)}` stays in float: {intent.reason}",
                help=f"{without_integers(handler)}; where nothing is converted, a `null` rule "
                "accepts it",
                span=unit.span(group.anchor),
                subject=f"`{unit.key(group.anchor)}`",
            )
        )


def _warn_of_norm(unit: Unit, group: FusedOps, by_last: Mapping[fx.Node, FusedOps]) -> None:
    unit.warnings.append(
        QS606.warning(
            f"batch norm `{unit.absolute(str(group.anchor.target))}` was not folded: "
            f"{_why_unfolded(unit, group, by_last)}",
            help="put it directly behind its conv or linear, with nothing in between",
            span=unit.span(group.anchor),
            subject=f"`{unit.absolute(str(group.anchor.target))}`",
        )
    )


def _why_unfolded(unit: Unit, group: FusedOps, by_last: Mapping[fx.Node, FusedOps]) -> str:
    producer = group.anchor.args[0]
    assert isinstance(producer, fx.Node)
    before = by_last.get(producer)
    if before is None:
        return "nothing stands before it"
    if before.declined:
        return before.declined
    if len(producer.users) > 1:
        return f"`{producer.name}` is used elsewhere too"
    return f"it stands behind `{unit.context.op(producer) or producer.name}`"


def _rule_name(unit: Unit, node: fx.Node) -> str:
    """How a rule calls the module of a node, or the op where forward has it."""
    return (
        unit.rule_name(str(node.target)) if node.op == "call_module" else unit.context.label(node)
    )


def _warn_of_members(unit: Unit, group: FusedOps) -> None:
    """Warn of rules for fused ops that differ from the anchor's rule: the anchor's one decides."""
    for node in group.nodes[1:]:
        rule = unit.matches[node].winner
        ours = group.match.winner
        if rule is None or rule.kind == "global" or (ours and rule.value == ours.value):
            continue
        unit.warnings.append(
            QS607.warning(
                f"the rule `{rule.key}` has no effect on `{node.name}`: it is fused behind "
                f"`{group.anchor.name}`, which decides",
                help=f"write the rule for `{_rule_name(unit, group.anchor)}`, or remove it",
                at=rule.at or None,
                subject=f"`{node.name}`: it is fused behind `{group.anchor.name}`",
            )
        )
