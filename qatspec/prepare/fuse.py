"""Pass 3, fuse: cut the graph into groups that the chip runs as one op each.

Patterns are the registry's FusePattern records. A chain is followed from its anchor while nothing
else uses the value in between; the longest pattern that matches and whose check agrees wins.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import fx

from qatspec.graph.ops import BATCH_NORM_OPS
from qatspec.prepare.custom import called
from qatspec.prepare.unit import Group, Unit
from qatspec.registry import Registry
from qatspec.types import FusePattern


@dataclass(frozen=True, slots=True)
class Match:
    """What a pattern's check and rewrite are given: the unit and the chain, anchor first."""

    unit: Unit
    nodes: tuple[fx.Node, ...]

    def op(self, position: int) -> str | None:
        """Canonical op of the chain's node at `position`."""
        return self.unit.context.op(self.nodes[position])


def fuse(unit: Unit, patterns: Sequence[FusePattern], registry: Registry) -> None:
    """Fill `unit.groups` in graph order: fused chains, and every other op by itself.

    patterns: in the order in which they are tried. Raises DiagnosticError QS002 where a chain is
    met whose pattern two plugins register, PluginFault for what a check or rewrite raises.
    """
    _split_shared_outputs(unit)
    constant = unit.context.is_constant
    taken: set[fx.Node] = set()
    chains: dict[fx.Node, Group] = {}
    for node in unit.graph.nodes:
        if node.op in ("placeholder", "output") or node in taken or constant(node):
            continue
        group = _longest(unit, node, patterns, taken, registry)
        group.match = unit.matches[node]
        chains[node] = group
        taken.update(group.nodes)
    # A group computes where its last node stands.
    position = {node: i for i, node in enumerate(unit.graph.nodes)}
    unit.groups = sorted(chains.values(), key=lambda g: position[g.last])
    anchors = {unit.key(n): unit.key(g.anchor) for g in unit.groups for n in g.nodes[1:]}
    unit.calls = [replace(call, anchor=anchors.get(call.node, "")) for call in unit.calls]


def _split_shared_outputs(unit: Unit) -> None:
    """Give each of several batch norms behind one conv output a conv call of its own: same module,
    same weight, and every norm can be folded."""
    context = unit.context
    for node in list(unit.graph.nodes):
        users = list(node.users)
        if node.op != "call_module" or len(users) < 2:
            continue
        if any(context.op(user) not in BATCH_NORM_OPS for user in users):
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
    registry: Registry,
) -> Group:
    declined = ""
    for pattern in patterns:
        nodes = _follow(unit, anchor, pattern, taken)
        if nodes is None:
            continue
        registry.undisputed("fuse_pattern", pattern.name)
        match = Match(unit, nodes)
        with registry.blame(pattern, f"fuse pattern `{pattern.name}` at `{anchor.name}`"):
            reason = pattern.check(match) if pattern.check else None
            if reason is None and pattern.rewrite:
                pattern.rewrite(match)
        if reason is not None:
            declined = declined or f"{pattern.name}: {reason}"
            continue
        norms = [n for n in nodes[1:] if unit.context.op(n) in BATCH_NORM_OPS]
        return Group(list(nodes), norm=norms[0] if norms else None, declined=declined)
    return Group([anchor], declined=declined)


def _follow(
    unit: Unit, anchor: fx.Node, pattern: FusePattern, taken: set[fx.Node]
) -> tuple[fx.Node, ...] | None:
    """The chain of `pattern` from `anchor`, or None."""
    nodes: list[fx.Node] = []
    node: fx.Node | None = anchor
    for position, ops in enumerate(pattern.pattern):
        if node is None or node in taken or not called(unit.context, node, ops):
            return None
        nodes.append(node)
        if position + 1 < len(pattern.pattern):
            node = next(iter(node.users)) if len(node.users) == 1 else None
    return tuple(nodes)
