"""A graph between two passes, or of a prepared model, as rows for people and programs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import fx, nn

from qatspec.graph.context import GraphContext
from qatspec.graph.module import TracedModule
from qatspec.graph.prepared import Decision, Prepared
from qatspec.prepare.unit import FusedOps, Unit
from qatspec.quant.fake_quant import FakeQuantize
from qatspec.quant.fold import QuantFold
from qatspec.quant.modules import is_weight_quantized
from qatspec.types import Fixed, Float, Shared

_OPS = {"placeholder": "input", "get_attr": "constant", "output": "output"}


@dataclass(frozen=True, slots=True)
class Row:
    """One node of a graph.

    op        canonical name, "input", "constant", "fake_quant" or "output"; of an op without a
              canonical name, the name of its class or function.
    operands  the arguments of the call: names of nodes, and settings; of a constant, its path.
    result    dtype and shape of the result on the example inputs, "" when unknown.
    module    path, in the prepared module, of the module that is called or makes the call.
    code      "file:line" of the model's code, "" when unknown.
    notes     what the passes found and decided so far.
    rule      pointer of the rule in the spec that decides, "" where none does yet.
    """

    node: str
    op: str
    operands: str
    result: str
    module: str
    code: str
    notes: str
    rule: str


@dataclass(frozen=True, slots=True)
class Listing:
    """The graph of one prepared module. path: "" = the whole model."""

    path: str
    rows: tuple[Row, ...]


def list_unit(unit: Unit) -> Listing:
    """The graph of a unit as it is after the passes that ran; without rows before it is traced."""
    if not unit.traced:
        return Listing(unit.path, ())
    if unit.decisions:
        notes = _decided(unit.decisions, unit.path)
    else:
        notes = {node.name: ("", _rule(unit, node)) for node in unit.matches}
        for group in unit.groups:
            notes |= _grouped(unit, group)
    return Listing(unit.path, tuple(_rows(unit.module, unit.graph, notes)))


def list_prepared(prepared: Prepared) -> tuple[Listing, ...]:
    """The graphs of the prepared modules of a model, standalone modules included."""
    return tuple(
        Listing(path, tuple(_rows(m, m.graph, _decided(prepared.decisions, path))))
        for path, m in prepared.model.named_modules()
        if isinstance(m, TracedModule)
    )


def dump(prepared: Prepared) -> str:
    """Return the graphs of the prepared modules of a model as text, a line for each node.

    The columns are those of `Row`: node, op, operands, dtype and shape of the result on the example
    inputs (not in a model that was loaded from a file), module, line of the model's code, what was
    decided, and the rule that decided. `qatspec check SPEC --after PASS` prints the same of the
    graph as it is between two passes.
    """
    return "\n".join(map(text, list_prepared(prepared)))


def text(listing: Listing) -> str:
    """The listing in columns, each as wide as its widest entry, without the empty ones."""
    head = f"graph of {f'`{listing.path}`' if listing.path else 'the model'}"
    if not listing.rows:
        return f"{head}: not traced yet\n"
    names = [f.name for f in fields(Row) if any(getattr(row, f.name) for row in listing.rows)]
    cells = [names, *([getattr(row, name) for name in names] for row in listing.rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in cells]
    return "\n".join([head, *lines]) + "\n"


def _rows(root: nn.Module, graph: fx.Graph, notes: Mapping[str, tuple[str, str]]) -> Iterator[Row]:
    context = GraphContext(root, graph)
    for node in graph.nodes:
        module = context.module(node)
        note, rule = notes.get(node.name, ("", ""))
        owner = str(node.target) if module is not None else str(node.meta.get("owner") or "")
        fake_quant = isinstance(module, FakeQuantize)  # registered under the name of the node
        yield Row(
            node=node.name,
            op="fake_quant" if fake_quant else _OPS.get(node.op) or context.label(node),
            operands=str(node.target) if node.op == "get_attr" else _arguments(node),
            result=_result(node.meta.get("example")),
            module="" if fake_quant else owner,
            code=str(node.meta.get("source") or ""),
            notes="; ".join(filter(None, (note, _of_module(module)))),
            rule=rule,
        )


def _arguments(node: fx.Node) -> str:
    if node.op == "placeholder":
        return ""
    arguments = [*map(repr, node.args), *(f"{key}={value!r}" for key, value in node.kwargs.items())]
    return ", ".join(arguments)


def _result(example: Any) -> str:
    if isinstance(example, torch.Tensor):
        return f"{str(example.dtype).removeprefix('torch.')} {tuple(example.shape)}"
    if isinstance(example, (list, tuple)) and not isinstance(example, torch.Size):
        return f"[{', '.join(map(_result, example))}]"
    return "" if example is None else str(example)


def _of_module(module: nn.Module | None) -> str:
    """How the called module is quantized."""
    if isinstance(module, FakeQuantize):
        return f"{module.qspec.dtype}, switched off" if module.disabled else module.qspec.dtype
    if module is None or not is_weight_quantized(module):
        return ""
    weight: Any = module.weight_fake_quant
    folded = ", batch norm folded" if isinstance(module, QuantFold) else ""
    return f"weight {weight.qspec.dtype}{folded}"


def _decided(decisions: Mapping[str, Decision], path: str) -> dict[str, tuple[str, str]]:
    """Name of a node -> (notes, rule) of the unit at `path`."""
    decided: dict[str, tuple[str, str]] = {}
    for decision in decisions.values():
        unit, _, anchor = decision.node.rpartition(":")
        if unit == path:
            decided |= dict.fromkeys(decision.group[1:], (f"fused into {anchor}", ""))
            decided[anchor] = decision.reason, decision.rule
    return decided


def _grouped(unit: Unit, group: FusedOps) -> dict[str, tuple[str, str]]:
    """Name of a node of the group -> (notes, rule), before fake-quants are inserted."""
    anchor = group.anchor
    words = [_intent(group)] if group.annotated else []
    if len(group.nodes) > 1:
        words.append("fused: " + " + ".join(map(unit.context.label, group.nodes)))
    if group.declined:
        words.append(f"not fused: {group.declined}")
    members = {n.name: (f"fused into {anchor.name}", _rule(unit, n)) for n in group.nodes[1:]}
    return {**members, anchor.name: ("; ".join(words), _rule(unit, anchor))}


def _intent(group: FusedOps) -> str:
    if group.match.qconfig is None:
        return "float: no rule matches" if group.match.winner is None else "float: by its rule"
    intent = group.annotation.output
    if isinstance(intent, Float):
        return f"float: {intent.reason}"
    weight = ", quantized weight" if group.weight is not None else ""
    if isinstance(intent, Shared):
        return f"keeps its operand's scale{weight}"
    scale = f"fixed scale {intent.scale}" if isinstance(intent, Fixed) else "observed"
    return f"{scale}{weight}"


def _rule(unit: Unit, node: fx.Node) -> str:
    match = unit.matches.get(node)
    return match.winner.at if match is not None and match.winner is not None else ""
