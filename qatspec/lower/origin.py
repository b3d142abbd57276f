"""Provenance: which node of a prepared module a node of the deploy graph comes from, and the
decision on that node.

The deploy graph is a trace of the whole model, which runs the code that fx generated for each
prepared module. The tracer notes in each node which node of which prepared module was running
(`meta["origin"]`); that one's decision names module, source line and rule.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import fx

from qatspec.graph import Decision, Prepared
from qatspec.ir import Provenance
from qatspec.lower.closing import fake_quant_of


def origins(prepared: Prepared) -> Callable[[fx.Node], Provenance]:
    """Return a function from a node of a trace of `prepared.model` to its Provenance."""
    decisions = _by_node(prepared)
    modules = dict(prepared.model.named_modules(remove_duplicate=False))
    nodes = {
        (path, node.name): node
        for path, module in modules.items()
        if isinstance(module, fx.GraphModule)
        for node in module.graph.nodes
    }

    def origin(node: fx.Node) -> Provenance:
        if fake_quant_of(node, modules) is not None and isinstance(node.args[0], fx.Node):
            return origin(node.args[0])  # a fake-quant belongs to the op whose result it quantizes
        path, name = node.meta.get("origin") or ("", "")
        decision = decisions.get(f"{path}:{name}")
        module = str(node.target) if node.op == "call_module" else node.meta.get("owner", "")
        if decision is None:  # an index, a shape, or an op outside of the prepared modules
            meta = {**node.meta, **nodes.get((path, name), node).meta}
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


def _by_node(prepared: Prepared) -> dict[str, Decision]:
    """ "<module path>:<node name>" -> its decision, the members of each group included."""
    table = {
        f"{key.rpartition(':')[0]}:{member}": decision
        for key, decision in prepared.decisions.items()
        for member in decision.group
    }
    return {**table, **prepared.decisions}
