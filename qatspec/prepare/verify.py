"""What must hold of a graph after each pass, whatever the model and the plugins are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from torch import fx, nn

from qatspec.prepare.unit import Unit
from qatspec.quant.fake_quant import FakeQuantize


def problem(unit: Unit, chain: Sequence[fx.Node] = ()) -> str | None:
    """The first thing that is wrong with the unit's graph, None if nothing is.

    chain: nodes that must be in the graph, besides those of `unit.groups`.
    """
    return next(_problems(unit, [*(g.nodes for g in unit.groups), chain]), None)


def _problems(unit: Unit, chains: Iterable[Sequence[fx.Node]]) -> Iterator[str]:
    known: set[fx.Node] = set()
    names: set[str] = set()
    targets: dict[str, object] = {}
    for node in unit.graph.nodes:
        for operand in node.all_input_nodes:
            if operand not in known:
                yield f"`{node.name}` reads `{operand.name}`, which is not computed before it"
        if node.name in names:
            yield f"two nodes have the name `{node.name}`"
        if node.op in ("call_module", "get_attr"):
            path = str(node.target)
            target = targets[path] if path in targets else _at(unit.module, path)
            targets[path] = target
            if target is None:
                yield f"`{node.name}` names `{path}`, which the module lacks"
            if isinstance(target, FakeQuantize) and _fake_quantized(node.args[0], targets):
                yield f"`{node.name}` quantizes `{node.args[0]}` a second time"
        known.add(node)
        names.add(node.name)
    if not known or node.op != "output":
        yield "the last node is not the output"
    grouped: set[fx.Node] = set()
    for chain in chains:
        for node in chain:
            if node not in known:
                yield f"`{node.name}` is fused, but no longer in the graph"
            if node in grouped:
                yield f"`{node.name}` is fused twice"
            grouped.add(node)


def _at(root: nn.Module, path: str) -> object:
    """The module, parameter or buffer at a path; None where there is none. A tensor that the module
    computes is not computed for this."""
    *owners, name = path.split(".")
    module = root
    for owner in owners:
        inner = module._modules.get(owner)
        if inner is None:
            return None
        module = inner
    for table in (module._modules, module._parameters, module._buffers, vars(module)):
        if table.get(name) is not None:
            entry: object = table[name]
            return entry
    return module if hasattr(type(module), name) else None


def _fake_quantized(operand: object, targets: dict[str, object]) -> bool:
    if not isinstance(operand, fx.Node) or operand.op != "call_module":
        return False
    return isinstance(targets.get(str(operand.target)), FakeQuantize)
