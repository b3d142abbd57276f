"""Divide the graph into chains that the chip runs as one op each.

Patterns are the registry's FusePattern records. A chain is followed from its anchor while nothing
else reads the value in between; the longest pattern that matches and whose check agrees wins.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import fx

from qatspec.prepare.custom import matches_entry
from qatspec.prepare.unit import FusedOps, Unit
from qatspec.prepare.verify import problem
from qatspec.registry import registry
from qatspec.types import FusePattern, OpTrait


@dataclass(frozen=True, slots=True)
class Match:
    """The argument of a pattern's check and rewrite: the unit and the chain, anchor first."""

    unit: Unit
    nodes: tuple[fx.Node, ...]

    def op(self, position: int) -> str | None:
        """Canonical op of the chain's node at `position`."""
        return self.unit.context.op(self.nodes[position])


def fuse(unit: Unit) -> None:
    """Fill `unit.groups` with the patterns of the spec and the installed plugins; see `fuse_by`."""
    fuse_by(unit, unit.custom.patterns(registry().fuse_patterns()))


def fuse_by(unit: Unit, patterns: Sequence[FusePattern]) -> None:
    """Fill `unit.groups` in graph order: fused chains, and every other op by itself.

    patterns: in the order in which they are tried. Raises DiagnosticError QS002 where a chain
    matches whose pattern two plugins register, PluginFault for what a check or rewrite raises.
    """
    unit.calls_by_module = _calls_by_module(unit)
    constant = unit.context.is_constant
    taken: set[fx.Node] = set()
    chains: dict[fx.Node, FusedOps] = {}
    for node in unit.graph.nodes:
        if node.op in ("placeholder", "output") or node in taken or constant(node):
            continue
        group = _longest(unit, node, patterns, taken)
        group.match = unit.matches[node]
        chains[node] = group
        taken.update(group.nodes)
    # A group computes at the position of its last node.
    position = {node: i for i, node in enumerate(unit.graph.nodes)}
    unit.groups = sorted(chains.values(), key=lambda g: position[g.last])
    anchors = {unit.key(n): unit.key(g.anchor) for g in unit.groups for n in g.nodes[1:]}
    unit.calls = [replace(call, anchor=anchors.get(call.node, "")) for call in unit.calls]


def split_shared_outputs(unit: Unit) -> None:
    """Give each of several batch norms that read one result a call of its own of the module that
    computes it, so that each can be folded. The module stays one, and so does its weight."""
    context = unit.context
    for node in list(unit.graph.nodes):
        users = list(node.users)
        if node.op != "call_module" or len(users) < 2:
            continue
        if any(not context.has_trait(user, OpTrait.BATCH_NORM) for user in users):
            continue
        for user in users[1:]:
            with unit.graph.inserting_before(user):
                copy = unit.graph.node_copy(node, lambda n: n)
            user.replace_input_with(node, copy)
            unit.matches[copy] = unit.matches[node]


def _longest(
    unit: Unit,
    anchor: fx.Node,
    patterns: Sequence[FusePattern],
    taken: set[fx.Node],
) -> FusedOps:
    declined = ""
    for pattern in patterns:
        nodes = _follow(unit, anchor, pattern, taken)
        if nodes is None:
            continue
        registry().require_undisputed("fuse_pattern", pattern.name)
        match = Match(unit, nodes)
        with registry().attribute_errors(
            pattern, f"fuse pattern `{pattern.name}` at `{anchor.name}`"
        ):
            reason = pattern.check(match) if pattern.check else None
            if reason is None and pattern.rewrite:
                pattern.rewrite(match)
                if wrong := problem(unit, nodes):
                    raise ValueError(f"the rewrite leaves a malformed graph: {wrong}")
                unit.calls_by_module = _calls_by_module(unit)
        if reason is not None:
            declined = declined or f"{pattern.name}: {reason}"
            continue
        norms = [n for n in nodes[1:] if unit.context.has_trait(n, OpTrait.BATCH_NORM)]
        return FusedOps(list(nodes), norm=norms[0] if norms else None, declined=declined)
    return FusedOps([anchor], declined=declined)


def _calls_by_module(unit: Unit) -> dict[int, list[fx.Node]]:
    calls: dict[int, list[fx.Node]] = {}
    for node in unit.graph.nodes:
        if node.op == "call_module":
            calls.setdefault(id(unit.context.module(node)), []).append(node)
    return calls


def _follow(
    unit: Unit, anchor: fx.Node, pattern: FusePattern, taken: set[fx.Node]
) -> tuple[fx.Node, ...] | None:
    """The nodes that match `pattern` from `anchor` on, None where they do not."""
    nodes: list[fx.Node] = []
    node: fx.Node | None = anchor
    for position, ops in enumerate(pattern.pattern):
        if node is None or node in taken or not matches_entry(unit.context, node, ops):
            return None
        nodes.append(node)
        if position + 1 < len(pattern.pattern):
            node = next(iter(node.users)) if len(node.users) == 1 else None
    return tuple(nodes)
