"""Provenance: which node of a prepared module a node of the whole graph is, and who decided it.

Tracing the whole model runs the code that fx generated for each prepared module, so that a node of
it appears once a call, in the same order; matching them up in order brings back the node's own
name, and with it the decision that names module, source line and rule.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import fx

from qatspec.graph import Decision, Prepared
from qatspec.ir import Provenance
from qatspec.lower.closing import fake_quant_of

_CALLS = ("call_module", "call_function", "call_method")


def origins(trace: Sequence[fx.Node], prepared: Prepared) -> Callable[[fx.Node], Provenance]:
    """node -> Provenance over the nodes of the trace of `prepared.model`, all of them in order."""
    decisions = _by_node(prepared)
    found: dict[fx.Node, Decision] = {}
    twins: dict[fx.Node, fx.Node] = {}  # where nothing was decided (indices, shapes)
    for path in prepared.modules:
        inner = prepared.model.get_submodule(path)
        if not isinstance(inner, fx.GraphModule):
            continue
        own = [node for node in inner.graph.nodes if node.op in _CALLS]
        traced = [node for node in trace if node.op in _CALLS and _inside(node, path)]
        if not own or len(traced) % len(own):
            continue
        for i, node in enumerate(traced):
            twins[node] = own[i % len(own)]
            decision = decisions.get(f"{path}:{twins[node].name}")
            if decision is not None:
                found[node] = decision

    modules = dict(prepared.model.named_modules(remove_duplicate=False))

    def origin(node: fx.Node) -> Provenance:
        if fake_quant_of(node, modules) is not None and isinstance(node.args[0], fx.Node):
            return origin(node.args[0])  # a fake-quant belongs to what it closes
        decision = found.get(node)
        module = str(node.target) if node.op == "call_module" else node.meta.get("owner", "")
        if decision is None:
            meta = {**node.meta, **twins.get(node, node).meta}
            module = module or str(meta.get("owner") or "")
            return Provenance(module=module, node=node.name, source=str(meta.get("source", "")))
        return Provenance(
            module=decision.module or module,
            node=decision.node,
            source=decision.source,
            rule=decision.rule,
            op=decision.op,
        )

    return origin


def _inside(node: fx.Node, path: str) -> bool:
    owner = str(node.target) if node.op == "call_module" else str(node.meta.get("owner", ""))
    return not path or owner == path or owner.startswith(f"{path}.")


def _by_node(prepared: Prepared) -> dict[str, Decision]:
    """ "<module path>:<node name>" -> its decision, the members of each group included."""
    table = {
        f"{key.rpartition(':')[0]}:{member}": decision
        for key, decision in prepared.decisions.items()
        for member in decision.group
    }
    return {**table, **prepared.decisions}
