"""Pass 4, annotate: ask each op's quant handler what it intends. The graph is not touched."""

from __future__ import annotations

from torch import fx, nn

from qatspec.diag import Diagnostic
from qatspec.prepare.unit import Group, Unit
from qatspec.registry import Registry
from qatspec.types import Annotation, Float, Shared


def annotate(unit: Unit, registry: Registry) -> None:
    """Fill each group's annotation; groups that carry no float tensor (shape arithmetic) go."""
    unit.groups = [g for g in unit.groups if unit.context.carries_float(g.last)]
    for group in unit.groups:
        own = unit.custom.annotation(unit, group)
        group.annotation = own or _intent(unit, group.anchor, registry)
        _warn_of_float(unit, group)
        _warn_of_members(unit, group)


def _intent(unit: Unit, node: fx.Node, registry: Registry) -> Annotation:
    if node.op == "call_module" and node.target in unit.standalone:
        # The unit inside ends on the integer grid: nothing is left to do behind it.
        return Annotation(output=Shared(), inputs=tuple(range(len(node.args))))
    op = unit.context.op(node)
    handler = registry.handler_for(op) if op else None
    if handler is None:
        reason = f"no quant handler knows `{unit.context.label(node)}`"
        return Annotation(output=Float(reason), inputs=())
    special = _left_in_float(unit, node, registry)
    if special is not None:
        return Annotation(output=Float(special), inputs=())
    with registry.blame(handler, f"handler `{handler.name}`, annotating `{node.name}`,"):
        annotation = handler.annotate(node, unit.context)
        if not isinstance(annotation, Annotation):
            raise TypeError(f"annotate gave {annotation!r}, which is no Annotation")
    return annotation


def _left_in_float(unit: Unit, node: fx.Node, registry: Registry) -> str | None:
    """Why the march leaves the op in float, where the preset asks for the march's special cases."""
    march, op = unit.context.march, unit.context.op(node)
    reason = registry.march(march).float_ops.get(op) if march and op else None
    if reason is None or (op == "matmul" and unit.context.is_constant(node.all_input_nodes[-1])):
        return None  # a product with a matrix of parameters is a linear layer
    return f"{march}: {reason}"


def _warn_of_float(unit: Unit, group: Group) -> None:
    intent = group.annotation.output
    if isinstance(intent, Float) and group.activation is not None:
        unit.warnings.append(
            Diagnostic(
                code="QS608",
                message=f"`{unit.key(group.anchor)}` stays in float: {intent.reason}",
                help="replace it by an op that is quantized, or list only the modules before it "
                "under `quantize: modules`; where nothing is compiled, a `null` rule accepts it",
                span=unit.span(group.anchor),
                severity="warning",
            )
        )
    if isinstance(unit.context.module(group.anchor), nn.modules.batchnorm._BatchNorm):
        unit.warnings.append(
            Diagnostic(
                code="QS606",
                message=f"batch norm `{unit.absolute(str(group.anchor.target))}` was not folded: "
                f"{_why_unfolded(unit, group)}",
                help="put it directly behind its conv or linear, with nothing in between",
                span=unit.span(group.anchor),
                severity="warning",
            )
        )


def _why_unfolded(unit: Unit, group: Group) -> str:
    producer = group.anchor.args[0]
    assert isinstance(producer, fx.Node)
    for other in unit.groups:
        if other.last is producer:
            if other.declined:
                return other.declined
            if len(producer.users) > 1:
                return f"`{producer.name}` is used elsewhere too"
            return f"it stands behind `{unit.context.op(producer) or producer.name}`"
    return "nothing stands before it"


def _warn_of_members(unit: Unit, group: Group) -> None:
    """A rule on a fused member that says something else than the anchor's has no effect."""
    for node in group.nodes[1:]:
        rule = unit.matches[node].winner
        ours = group.match.winner
        if rule is None or rule.kind == "global" or (ours and rule.value == ours.value):
            continue
        unit.warnings.append(
            Diagnostic(
                code="QS607",
                message=f"the rule `{rule.key}` has no effect on `{node.name}`: it is fused behind "
                f"`{group.anchor.name}`, which decides",
                at=rule.at or None,
                severity="warning",
            )
        )
