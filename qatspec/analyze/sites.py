"""Sites that one rule can quantize or exclude: modules, and calls of functions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import fx, nn

from qatspec.graph import Decision, Prepared
from qatspec.quant.fake_quant import FakeQuantize
from qatspec.quant.modules import is_weight_quantized
from qatspec.spec import Call

_BEHIND = "_activation_post_process_"


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """One thing that a rule can decide.

    name         the module's path; "<module>:<node>" for a function's call or a module's input.
    calls        its ops as rules see them; none for an input, which no rule decides by itself.
    fake_quants  paths of the fake-quants of its weights and results.
    """

    name: str
    op: str
    calls: tuple[Call, ...]
    fake_quants: tuple[str, ...]
    rule: str
    source: str


def sites(prepared: Prepared) -> list[Site]:
    """Everything quantized in `prepared`, in graph order. A module that is called several times is
    one site."""
    calls = {call.node: call for call in prepared.calls}
    together: dict[str, list[Decision]] = {}
    for decision in prepared.decisions.values():
        call = calls.get(decision.node)
        alone = call is None or not _is_module(call, prepared.calls)
        name = decision.node if call is None or alone else call.path
        together.setdefault(name, []).append(decision)
    all_sites = []
    for name, decisions in together.items():
        paths = tuple(dict.fromkeys(p for d in decisions for p in _fake_quants(d, prepared.model)))
        if paths:
            all_sites.append(
                Site(
                    name=name,
                    op=decisions[0].op,
                    calls=tuple(calls[d.node] for d in decisions if d.node in calls),
                    fake_quants=paths,
                    rule=decisions[0].rule,
                    source=decisions[0].source,
                )
            )
    return all_sites


def _is_module(call: Call, calls: Sequence[Call]) -> bool:
    """Return whether a rule for the module name of the call applies to this op and to no other."""
    below = [
        c for c in calls if c.unit == call.unit and f"{c.module}.".startswith(f"{call.module}.")
    ]
    return bool(call.module) and {(c.module, c.names[0]) for c in below} == {
        (call.module, call.names[0])
    }


def _fake_quants(decision: Decision, model: nn.Module) -> Iterator[str]:
    """Paths of the weight's fake-quant and of those behind the group's anchor."""
    unit, _, anchor = decision.node.rpartition(":")
    prefix = f"{unit}." if unit else ""
    module = model.get_submodule(unit)
    if not isinstance(module, fx.GraphModule):
        return
    for node in module.graph.nodes:
        if node.op != "call_module":
            continue
        called = module.get_submodule(node.target)
        if node.name in decision.group and is_weight_quantized(called):
            yield f"{prefix}{node.target}.weight_fake_quant"
        behind = node.name.startswith(f"{anchor}{_BEHIND}")
        if isinstance(called, FakeQuantize) and behind and not called.disabled:
            yield f"{prefix}{node.target}"
