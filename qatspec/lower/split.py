"""Where the chip's part of a model begins and ends, where its forward does more than what is
prepared: `qatspec.graph.float_parts` says which ops the host runs. What is cut off becomes two
graphs of their own.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import fx

from qatspec.diag import DiagnosticError, Span
from qatspec.diag.codes import QS707
from qatspec.graph.batch import Batch
from qatspec.graph.context import GraphContext
from qatspec.graph.deploy import Deployment, output_tree, yields_tensor
from qatspec.graph.ends import POST_PROCESS
from qatspec.graph.float_parts import float_parts
from qatspec.graph.host import Host
from qatspec.ir import unflatten

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
    parts = split(deployment, context)
    flat, tree = output_tree(graph)
    images = [n for n in graph.nodes if n.op == "placeholder"]
    reads_images = any(n in images for node in parts.after for n in node.all_input_nodes)
    entering = (*parts.leaving, *(images if reads_images else ()))
    batch = deployment.batch
    pre = _part(images, parts.before, list(parts.entering), batch) if parts.before else None
    results = unflatten(tree, flat)
    post = _part(entering, parts.after, results, batch) if parts.after else None
    return Host(_names(parts.before, context), _names(parts.after, context), pre, post)


def split(deployment: Deployment, context: GraphContext) -> Split:
    """Divide the deploy graph. Raises DiagnosticError QS707 where a float part behind the chip's
    reads something that the chip's part does not give."""
    before, after = float_parts(deployment, context)
    return _cut(deployment, before, after, context)


def _cut(
    deployment: Deployment,
    before: dict[fx.Node, None],
    after: dict[fx.Node, None],
    context: GraphContext,
) -> Split:
    graph, batch = deployment.graph, deployment.batch
    host = {**before, **after}
    on_chip = [n for n in graph.nodes if n not in host and n.op in _CALLS]
    entering = _read(
        on_chip, [n for n in graph.nodes if n in before or n.op == "placeholder"], context
    )
    results = [n for n in graph.nodes if n.op == "output"]
    computed = [n for n in on_chip if not batch.is_constant(n, of_batch=True)]
    leaving = _read([*after, *results], computed, context)
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


def _names(nodes: Sequence[fx.Node], context: GraphContext) -> tuple[str, ...]:
    """Modules of the nodes, or their ops where forward itself has them."""
    names = (
        str(n.target) if n.op == "call_module" else str(n.meta.get("owner") or context.op(n) or n)
        for n in nodes
    )
    return tuple(dict.fromkeys(names))
