"""Weights that forward makes from the sizes of its tensors: `kernel.repeat(x.shape[1], 1, 1, 1)`.

The sizes become those of the example, which `fixed` checks in each later call. Parameters and
buffers are still read in each call; what is made from sizes and written numbers alone becomes a
buffer.
"""

from __future__ import annotations

from typing import Any

from torch import fx, nn

from qatspec.graph.batch import Batch
from qatspec.graph.constants import evaluate, is_constant
from qatspec.graph.context import GraphContext
from qatspec.graph.sizes import fixed, is_plain
from qatspec.prepare.appending import Appending, is_table
from qatspec.types import OpTrait


def fix_sizes_of_weights(root: nn.Module, graph: fx.Graph) -> None:
    """Let weights and biases of functional convs and linears that depend on sizes, and on no
    number of an input, depend on parameters and buffers alone. Those that follow the batch stay."""
    context = GraphContext(root, graph)
    sized = [
        (node, operand)
        for node in graph.nodes
        if node.op == "call_function" and context.has_trait(node, OpTrait.WEIGHT)
        for operand in dict.fromkeys(n for n in node.args[1:3] if isinstance(n, fx.Node))
        if is_table(operand) and not is_constant(operand)
    ]
    if not sized:
        return
    batch = Batch(root, graph)
    constant = [(node, operand) for node, operand in sized if batch.is_constant(operand)]
    copies: dict[fx.Node, fx.Node] = {}
    for node, operand in constant:
        with graph.inserting_before(min(operand.users)):
            tracer = Appending(root, graph, operand)
            if operand not in copies:
                copies[operand] = _with_fixed_sizes(operand, tracer, {})
        node.replace_input_with(operand, copies[operand])
    for operand in copies:
        _erase_unread(operand)


def _with_fixed_sizes(node: fx.Node, tracer: Appending, made: dict[fx.Node, Any]) -> Any:
    """A copy of a node, of a table, that reads the sizes of the example. made: node -> its copy."""
    if node in made:
        return made[node]
    example = node.meta.get("example")
    if node.op == "get_attr":
        made[node] = node
    elif is_plain(example):
        if isinstance(example, (int, float, tuple)):
            source = str(tracer.origin.meta.get("source", ""))
            tracer.create_node("call_function", fixed, (node, example, source), {})
        made[node] = example
    else:
        args, kwargs = fx.node.map_arg(
            (node.args, node.kwargs), lambda n: _with_fixed_sizes(n, tracer, made)
        )
        if any(isinstance(n, fx.Node) for n in _nodes((args, kwargs))):
            made[node] = tracer.create_node(node.op, node.target, args, kwargs)
        else:
            made[node] = tracer.buffer(evaluate(tracer.module, node)).node
    return made[node]


def _nodes(arguments: Any) -> list[fx.Node]:
    nodes: list[fx.Node] = []
    fx.node.map_arg(arguments, nodes.append)
    return nodes


def _erase_unread(node: fx.Node) -> None:
    """Erase a node that nothing reads, and what it alone read."""
    waiting = {node: None}
    while waiting:
        here, _ = waiting.popitem()
        if not here.users and here.op != "placeholder":
            waiting.update(dict.fromkeys(here.all_input_nodes))
            here.graph.erase_node(here)
