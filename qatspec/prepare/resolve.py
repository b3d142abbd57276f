"""Find the rule that decides each op; its weight and its activation have the same one."""

from __future__ import annotations

from collections import Counter

from torch import fx

from qatspec.prepare.unit import Unit
from qatspec.spec import Call
from qatspec.spec.rules import RuleMatch, decide


def resolve(unit: Unit) -> None:
    """Fill `unit.calls` and `unit.matches`: each op as rules see it, and the rule that decides."""
    calls: Counter[tuple[str, str]] = Counter()
    for node in unit.graph.nodes:
        if node.op in ("placeholder", "get_attr", "output"):
            continue
        module, names = _address(unit, node)
        # The scope of a call is the module that makes it; a called module's owner is itself.
        called = node.op == "call_module" and node.meta.get("owner") == node.target
        scope = module.rpartition(".")[0] if called else module
        key = (scope, names[0])
        call = Call(
            node=unit.key(node),
            unit=unit.rule_path,
            entry=unit.at if unit.inner and unit.rule_path == unit.path else "",
            module=module,
            names=names,
            index=calls[key],
        )
        unit.calls.append(call)
        unit.matches[node] = call.decide(unit.rules)
        calls[key] += 1


def unit_rule(unit: Unit) -> RuleMatch:
    """The rule for the unit itself, which decides the inputs."""
    return decide(unit.rules, module=unit.rule_name(""), ops=())


def _address(unit: Unit, node: fx.Node) -> tuple[str, tuple[str, ...]]:
    """(module, names of the op) by which rules match a node."""
    return unit.rule_name(node.meta.get("owner", "")), unit.context.rule_names(node)
