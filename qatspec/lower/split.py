"""Where the chip's part of a model begins and ends, where its forward does more than what is
prepared.

What evaluation alone computes behind the network (`qatspec.graph.ends`) runs on the host in float.
So does what reads integers among the inputs, in front of it (`qatspec.graph.integer_inputs`), and
what is returned beside its results and depends on sizes alone.
Otherwise the boundary is the spec's: ops outside the prepared modules run on the host in float,
unless they stand between prepared modules (then they have to be lowered with them) or only move
numbers (then the chip moves them exactly). What is cut off becomes two graphs of their own.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import fx

from qatspec.diag import DiagnosticError, Span
from qatspec.diag.codes import QS707
from qatspec.graph import Prepared
from qatspec.graph.batch import Batch
from qatspec.graph.context import GraphContext
from qatspec.graph.deploy import Deployment, output_tree, yields_tensor
from qatspec.graph.ends import POST_PROCESS
from qatspec.graph.host import Host
from qatspec.graph.integer_inputs import reading_integers
from qatspec.ir import unflatten
from qatspec.lower.closing import fake_quant_of

_CALLS = ("call_module", "call_function", "call_method")


@dataclass(frozen=True, slots=True)
class Split:
    """before, after: nodes of the deploy graph that run on the host, in its order.
    entering, leaving: inputs and outputs of the chip's part, in port order."""

    before: tuple[fx.Node, ...]
    after: tuple[fx.Node, ...]
    entering: tuple[fx.Node, ...]
    leaving: tuple[fx.Node, ...]

    def __bool__(self) -> bool:
        return bool(self.before or self.after)


def host_parts(deployment: Deployment) -> Host:
    """Return the float parts of a model, which run on the host."""
    prepared, graph = deployment.prepared, deployment.graph
    context = GraphContext(prepared.model, graph, prepared.march)
    parts = split(prepared, context)
    flat, tree = output_tree(graph)
    images = [n for n in graph.nodes if n.op == "placeholder"]
    reads_images = any(n in images for node in parts.after for n in node.all_input_nodes)
    entering = (*parts.leaving, *(images if reads_images else ()))
    batch = deployment.batch
    pre = _part(images, parts.before, list(parts.entering), batch) if parts.before else None
    results = unflatten(tree, flat)
    post = _part(entering, parts.after, results, batch) if parts.after else None
    return Host(_names(parts.before, context), _names(parts.after, context), pre, post)


def split(prepared: Prepared, context: GraphContext) -> Split:
    """Divide the deploy graph. Raises DiagnosticError QS707 where a float part behind the chip's
    reads something that the chip's part does not give."""
    graph = context.graph
    closing = [n for n in graph.nodes if fake_quant_of(n, context.modules) is not None]
    inside = {
        n
        for n in graph.nodes
        if any(is_inside(n, path) for path in prepared.modules) and POST_PROCESS not in n.meta
    }
    needed = _closure(closing, lambda n: n.all_input_nodes)
    reached = _closure([n for n in graph.nodes if n in inside], lambda n: n.users)
    floats = [
        n
        for n in graph.nodes
        if n.op in _CALLS and n not in inside and yields_tensor(n) and not context.is_constant(n)
    ]
    heads = [n for n in floats if n in needed and n not in reached and not context.moves(n)]
    heads += [n for n in reading_integers(context) if n in needed]
    before = _closure(heads, lambda n: n.all_input_nodes)
    after: dict[fx.Node, None] = {}
    for node in floats:
        behind = any(n in after for n in node.all_input_nodes)
        behind = behind or POST_PROCESS in node.meta
        if node not in needed and (behind or not context.moves(node)):
            after[node] = None
    after |= dict.fromkeys(_constant_outputs(context))
    return _cut(graph, before, after, context)


def _constant_outputs(context: GraphContext) -> list[fx.Node]:
    """Tensors that a model returns and that its ops compute from sizes and buffers alone, such as
    anchors."""
    returned = output_tree(context.graph)[0]
    return [
        n
        for n in context.graph.nodes
        if n in returned and n.op in _CALLS and yields_tensor(n) and context.is_constant(n)
    ]


def _cut(
    graph: fx.Graph,
    before: dict[fx.Node, None],
    after: dict[fx.Node, None],
    context: GraphContext,
) -> Split:
    host = {**before, **after}
    on_chip = [n for n in graph.nodes if n not in host and n.op in _CALLS]
    entering = _read(
        on_chip, [n for n in graph.nodes if n in before or n.op == "placeholder"], context
    )
    results = [n for n in graph.nodes if n.op == "output"]
    leaving = _read([*after, *results], on_chip, context)
    for node in after:
        for operand in node.all_input_nodes:
            image = operand.op == "placeholder" and POST_PROCESS not in node.meta
            if image or operand in before:
                raise _unfed(node, operand)
    cut = tuple(n for n in before if n.op in _CALLS)
    return Split(cut, tuple(after), tuple(entering), tuple(leaving))


def _unfed(node: fx.Node, operand: fx.Node) -> DiagnosticError:
    path, _, line = str(node.meta.get("source", "")).rpartition(":")
    return QS707.error(
        f"`{node.name}` runs on the host behind the quantized modules and reads "
        f"`{operand.name}`, which does not come out of them",
        help="let the quantized modules return all that the float part needs, or move the "
        "float part into `predict`",
        span=Span(path, int(line)) if path and line.isdigit() else None,
    )


def _part(
    inputs: Sequence[fx.Node], nodes: Sequence[fx.Node], result: Any, batch: Batch
) -> fx.Graph:
    """A graph of `nodes` alone, from `inputs` to `result`; nodes keep names and meta."""
    part = fx.Graph()
    made: dict[fx.Node, fx.Node] = {}
    for node in inputs:
        made[node] = part.placeholder(node.name)
        made[node].meta = dict(node.meta)

    def here(node: fx.Node) -> fx.Node:
        if node not in made:  # parameters and sizes
            if batch.is_size(node):
                made[node] = part.call_method("size", (made[inputs[0]], 0))
                made[node].meta = dict(node.meta)
            else:
                made[node] = part.node_copy(node, here)
        return made[node]

    for node in nodes:
        made[node] = part.node_copy(node, here)
    part.output(fx.map_arg(result, here))
    return part


def _read(
    readers: Iterable[fx.Node], candidates: Iterable[fx.Node], context: GraphContext
) -> list[fx.Node]:
    """The candidates that carry tensors and are read, in their order."""
    wanted = {operand for reader in readers for operand in reader.all_input_nodes}
    return [
        n for n in candidates if n in wanted and yields_tensor(n) and not context.is_constant(n)
    ]


def _closure(start: Iterable[fx.Node], step: Any) -> dict[fx.Node, None]:
    """Everything that `step` reaches from `start`, in the order of the graph."""
    visited: set[fx.Node] = set()
    waiting = list(start)
    graph = waiting[0].graph if waiting else None
    while waiting:
        node = waiting.pop()
        if node not in visited:
            visited.add(node)
            waiting += list(step(node))
    return {n: None for n in graph.nodes if n in visited} if graph is not None else {}


def is_inside(node: fx.Node, path: str) -> bool:
    """Return whether the op belongs to the module at `path`; "" is the whole model."""
    if node.op not in _CALLS:
        return False
    owner = str(node.target) if node.op == "call_module" else str(node.meta.get("owner", ""))
    return not path or f"{owner}.".startswith(f"{path}.")


def _names(nodes: Sequence[fx.Node], context: GraphContext) -> tuple[str, ...]:
    """Modules of the nodes, or their ops where forward itself has them."""
    names = (
        str(n.target) if n.op == "call_module" else str(n.meta.get("owner") or context.op(n) or n)
        for n in nodes
    )
    return tuple(dict.fromkeys(names))
