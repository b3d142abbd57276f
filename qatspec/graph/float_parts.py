"""The float parts of a model around its integers, and the graph of the model without them.

What evaluation alone computes behind the network (`qatspec.graph.ends`) runs on the host in float.
So does what reads integers among the inputs, in front of it (`qatspec.graph.integer_inputs`), and
what is returned beside its results and depends on sizes alone.
Otherwise the boundary is the spec's: ops outside the prepared modules run on the host in float,
unless they stand between prepared modules (then they have to be lowered with them) or only move
numbers (then the chip moves them exactly).
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from torch import fx

from qatspec.graph.batch import Batch
from qatspec.graph.context import GraphContext
from qatspec.graph.deploy import Deployment, carries_tensor, output_tree, yields_tensor
from qatspec.graph.ends import POST_PROCESS
from qatspec.graph.integer_inputs import reading_integers
from qatspec.quant.fake_quant import FakeQuantize

_CALLS = ("call_module", "call_function", "call_method")

#: Nodes, in the order of their graph.
Nodes = dict[fx.Node, None]


def float_parts(deployment: Deployment, context: GraphContext) -> tuple[Nodes, Nodes]:
    """Return what runs on the host in front of the integers of a deploy graph, with the inputs and
    parameters that it reads, and what runs there behind them."""
    prepared, graph = deployment.prepared, deployment.graph
    closing = [n for n in graph.nodes if isinstance(context.module(n), FakeQuantize)]
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
    heads += [n for head in heads if _is_list(head, context) for n in head.users]
    before = _closure(heads, lambda n: n.all_input_nodes)
    after = _tail([n for n in floats if n not in needed], deployment, context)
    after |= dict.fromkeys(_constant_outputs(context))
    return before, {node: None for node in graph.nodes if node in after}


def _tail(floats: Sequence[fx.Node], deployment: Deployment, context: GraphContext) -> Nodes:
    """Those of `floats`, which no integers are computed from, that the host runs: all but moves of
    what the chip returns."""
    batch = deployment.batch
    after: Nodes = {}
    for node in floats:
        behind = POST_PROCESS in node.meta or any(n in after for n in node.all_input_nodes)
        moved = context.moves(node) and _can_leave(node, deployment, context)
        if behind or not moved:
            after[node] = None
    for node in reversed(floats):  # what is computed from sizes for the part behind alone
        if after.keys() >= node.users.keys() and batch.is_constant(node, of_batch=True):
            after[node] = None
    return after


def _can_leave(node: fx.Node, deployment: Deployment, context: GraphContext) -> bool:
    """Whether the chip can return the result of a move: a tensor with the batch in front, or a list
    whose parts are taken one by one."""
    if _is_list(node, context):
        return all(user.op == "output" or _takes_a_part(user) for user in node.users)
    return deployment.batch.is_first(node)


def _is_list(node: fx.Node, context: GraphContext) -> bool:
    return isinstance(context.value(node), (list, tuple))


def _takes_a_part(node: fx.Node) -> bool:
    return node.op == "call_function" and node.target is operator.getitem


def is_inside(node: fx.Node, path: str) -> bool:
    """Return whether the op belongs to the module at `path`; "" is the whole model."""
    if node.op not in _CALLS:
        return False
    owner = str(node.target) if node.op == "call_module" else str(node.meta.get("owner", ""))
    return not path or f"{owner}.".startswith(f"{path}.")


def without_post_process(deployment: Deployment) -> fx.Graph | None:
    """Return the graph that ends where the post-process begins, and returns what that reads; None
    where there is none."""
    return _ending_before(deployment, [n for n in deployment.graph.nodes if POST_PROCESS in n.meta])


def without_tail(deployment: Deployment) -> fx.Graph | None:
    """Return the graph that ends where the float part behind the integers begins, and returns what
    that reads; None where there is none, or nothing but it."""
    return _ending_before(deployment, float_parts(deployment, _context(deployment))[1])


def without_head(deployment: Deployment) -> fx.Graph | None:
    """Return the graph that begins with what the float part in front of the integers gives; None
    where there is none."""
    graph, context = deployment.graph, _context(deployment)
    head = float_parts(deployment, context)[0] | dict.fromkeys(reading_integers(context))
    if not any(node.op in _CALLS for node in head):
        return None
    network, made = fx.Graph(), dict[fx.Node, fx.Node]()
    for node in graph.nodes:
        readers = [user for user in node.users if user not in head]
        begins = node.op == "placeholder" or (node.op in _CALLS and node in head)
        if not begins and (readers or node.op == "output"):
            made[node] = network.node_copy(node, made.__getitem__)
        elif begins and readers:
            made[node] = network.placeholder(node.name)
            made[node].meta = dict(node.meta)
    return network


def without_head_and_tail(deployment: Deployment) -> fx.Graph | None:
    """Return the graph between both float parts; None where one of them is not there."""
    graph = without_tail(deployment)
    if graph is None:
        return None
    return without_head(
        replace(deployment, graph=graph, batch=Batch(deployment.prepared.model, graph))
    )


def _context(deployment: Deployment) -> GraphContext:
    prepared = deployment.prepared
    return GraphContext(prepared.model, deployment.graph, prepared.march)


def _ending_before(deployment: Deployment, tail: Iterable[fx.Node]) -> fx.Graph | None:
    """The graph without `tail` and what is computed from it."""
    graph, batch = deployment.graph, deployment.batch
    behind = _closure(tail, lambda n: n.users)
    read = {n for node in (*behind, graph.output_node()) for n in node.all_input_nodes}
    network, made = fx.Graph(), dict[fx.Node, fx.Node]()
    results = []
    for node in graph.nodes:
        if node.op == "output" or node in behind:
            continue
        made[node] = network.node_copy(node, made.__getitem__)
        computed = node.op in _CALLS and not batch.is_constant(node, of_batch=True)
        if node in read and computed and carries_tensor(node.meta.get("example")):
            results.append(made[node])
    network.output(tuple(results))
    return network if behind and results else None


def _constant_outputs(context: GraphContext) -> list[fx.Node]:
    """Tensors that a model returns and that its ops compute from sizes and buffers alone, such as
    anchors."""
    returned = output_tree(context.graph)[0]
    return [
        n
        for n in context.graph.nodes
        if n in returned
        and n.op in _CALLS
        and yields_tensor(n)
        and (context.is_constant(n) or context.is_returned_constant(n))
    ]


def _closure(start: Iterable[fx.Node], step: Callable[[fx.Node], Iterable[fx.Node]]) -> Nodes:
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
