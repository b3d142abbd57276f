"""`additional_fuser_method_mapping`: a function of the spec makes one module of several."""

from __future__ import annotations

from collections import Counter
from typing import Any

from torch import fx, nn

from qatspec.prepare.custom import is_exactly
from qatspec.prepare.names import refused
from qatspec.prepare.unit import FusedOps, Unit


def apply_fusers(unit: Unit) -> None:
    """Replace the first modules of a chain by the one that the fuser method returns.

    The new module is registered at the first module's path, as in torch, unless that is called
    elsewhere too (a conv shared by several batch norms): then at the last one's.
    Raises DiagnosticError QS602 where no path is free.
    """
    calls = Counter(n.target for n in unit.graph.nodes if n.op == "call_module")
    for group in unit.groups:
        for names, method in unit.custom.fusers:
            nodes = group.nodes[: len(names)]
            modules = [m for n in nodes if (m := unit.context.module(n)) is not None]
            if len(modules) == len(names) and all(map(is_exactly, modules, names)):
                _fuse_modules(unit, group, nodes, calls, method(*modules))
                break


def _fuse_modules(
    unit: Unit, group: FusedOps, nodes: list[fx.Node], calls: Counter[Any], fused: nn.Module
) -> None:
    alone = [str(n.target) for n in nodes if calls[n.target] == 1]
    if not alone:
        raise refused(
            f"`{nodes[0].target}` and what is fused behind it are called several times together",
            "write the fuser method's modules so that each call has one of its own",
            unit.at,
        )
    path = alone[0] if alone[0] == nodes[0].target else alone[-1]
    for other in alone:
        unit.module.set_submodule(other, fused if other == path else nn.Identity())
    anchor = nodes[0]
    anchor.target = path
    for node in nodes[1:]:
        node.replace_all_uses_with(anchor, propagate_meta=False)
        unit.graph.erase_node(node)
        group.nodes.remove(node)
        group.norm = None if node is group.norm else group.norm
    group.by_fuser = True
    unit.context.forget_modules()
