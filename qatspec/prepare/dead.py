"""Report and remove what no output depends on."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import fx, nn

from qatspec.diag.codes import QS506
from qatspec.prepare.unit import Unit

_ASSERTS = (torch._assert, torch._assert_async)


def drop_dead(unit: Unit) -> None:
    """Remove the ops that no output depends on. Warns (QS506) of each branch, by its last op, and
    of each module with parameters that is never called."""
    for node in list(unit.graph.nodes):
        if node.target in _ASSERTS and not node.users:
            unit.graph.erase_node(node)  # numbers are checked by no integer program
    before = list(unit.graph.nodes)
    tips = [node for node in before if not node.users and _computes(unit, node)]
    unit.graph.eliminate_dead_code()
    kept = set(unit.graph.nodes)
    for node in tips:
        if node not in kept:
            unit.warnings.append(
                QS506.warning(
                    f"`{unit.key(node)}` is computed, but reaches no output",
                    help="return it, or remove it",
                    span=unit.span(node),
                    subject=f"`{unit.key(node)}`",
                )
            )
    for path in _never_called(unit):
        unit.warnings.append(
            QS506.warning(
                f"module `{unit.absolute(path)}` has parameters, but is never called",
                help="call it in forward, or remove it",
                subject=f"`{unit.absolute(path)}`",
            )
        )


def _computes(unit: Unit, node: fx.Node) -> bool:
    """Whether a node is an op on tensors: not an input, not a shape that an assert compares."""
    return node.op not in ("placeholder", "get_attr", "output") and unit.context.carries_float(node)


def _never_called(unit: Unit) -> Iterator[str]:
    """Yield the outermost modules none of whose parameters the graph reads."""
    targets = [str(n.target) for n in unit.graph.nodes if n.op in ("call_module", "get_attr")]
    used = {id(p) for path in targets for p in _parameters(unit.module, path)}

    def unused(path: str, module: nn.Module) -> Iterator[str]:
        parameters = [id(p) for p in module.parameters()]
        if path and parameters and used.isdisjoint(parameters):
            yield path
        else:
            for name, child in module.named_children():
                yield from unused(f"{path}.{name}" if path else name, child)

    return unused("", unit.module)


def _parameters(root: nn.Module, path: str) -> list[nn.Parameter]:
    """Return the parameters of the module, or the one parameter, at a path."""
    owner, _, name = path.rpartition(".")
    target = getattr(root.get_submodule(owner), name)
    if isinstance(target, nn.Module):
        return list(target.parameters())
    return [target] if isinstance(target, nn.Parameter) else []
