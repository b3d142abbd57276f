"""Parts of forward that run while training alone, and hand one tensor on or update buffers: they
become modules."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn
from torch.utils import _pytree as pytree

from qatspec.graph.gradients import detach_operands
from qatspec.graph.spelling import changed_in_place, memory_of
from qatspec.prepare.functional import register
from qatspec.prepare.stored import as_stored
from qatspec.quant.train_only import TrainOnly, Updates

#: No such part is longer than this many nodes.
_LONGEST = 64
_COUNTER = "num_batches_tracked"


@dataclass(frozen=True, slots=True)
class Part:
    """Nodes of the training graph that evaluation lacks.

    nodes   in order.
    result  the one that is read behind the part; None where nothing is, of a counter.
    source  the node of the evaluation graph that is read in its place.
    """

    nodes: tuple[fx.Node, ...]
    result: fx.Node | None = None
    source: fx.Node | None = None


Twins = Mapping[fx.Node, fx.Node]


def find_part(
    node: fx.Node,
    training: Sequence[fx.Node],
    passed: Sequence[fx.Node],
    twins: Twins,
    alike: Callable[[fx.Node, fx.Node, Any], bool],
) -> Part | None:
    """Return the part at the start of `training`, the rest of the training graph, that evaluation
    lacks, so that the node behind it is `node`; None where there is none. What the part reads of
    `passed`, nodes before it that evaluation lacks too, belongs to it.

    twins: node of the training graph -> the same of the evaluation graph, of all before. alike:
    whether a node of each graph can be one, given the twins."""
    for length in range(1, min(_LONGEST, len(training) - 1) + 1):
        nodes, other = tuple(training[:length]), training[length]
        if nodes[-1].op not in ("call_function", "call_method", "get_attr"):
            return None
        part = _before(node, other, (*_read_of(passed, nodes), *nodes), twins)
        known = twins if part.result is None else {**twins, part.result: part.source}
        if _is_closed(part, twins) and alike(node, other, known):
            return part
    return None


def _read_of(passed: Sequence[fx.Node], nodes: Sequence[fx.Node]) -> list[fx.Node]:
    """The nodes of `passed` that `nodes` are computed from, in order."""
    read = {n for node in nodes for n in node.all_input_nodes}
    for node in reversed(passed):
        if node in read:
            read.update(node.all_input_nodes)
    return [node for node in passed if node in read]


def _before(node: fx.Node, other: fx.Node, nodes: tuple[fx.Node, ...], twins: Twins) -> Part:
    """The nodes as a part, whose result `other` reads where `node` reads a tensor."""
    mine, _ = pytree.tree_flatten((node.args, node.kwargs))
    theirs, _ = pytree.tree_flatten((other.args, other.kwargs))
    for a, b in zip(mine, theirs, strict=False):
        if b in nodes and isinstance(a, fx.Node):
            return Part(nodes, b, a)
    return Part(nodes)


def _is_closed(part: Part, twins: Twins) -> bool:
    """Whether only the result is read behind the part, in place of a tensor that the part reads and
    of the same shape, and it holds no parameter or module."""
    inside = set(part.nodes)
    if any(n is not part.result and not inside.issuperset(n.users) for n in part.nodes):
        return False
    if part.result is None or part.source is None:
        return _counts_batches(part.nodes)
    outer = {n for node in part.nodes for n in node.all_input_nodes} - inside
    reads = {twins.get(n) for n in outer}
    shape = _shape(part.source)
    return (
        part.source in reads
        and None not in reads
        and shape is not None
        and shape == _shape(part.result)
        and not any(node.op == "get_attr" for node in part.nodes)
    )


def _counts_batches(nodes: tuple[fx.Node, ...]) -> bool:
    """Whether the nodes only count the batches of a batch norm that has a fixed momentum."""
    names = [str(n.target).rpartition(".")[2] for n in nodes if n.op == "get_attr"]
    return bool(names) and set(names) == {_COUNTER}


def _shape(node: fx.Node) -> tuple[int, ...] | None:
    example = node.meta.get("example")
    return tuple(example.shape) if isinstance(example, torch.Tensor) else None


def insert_part(
    module: nn.Module,
    graph: fx.Graph,
    before: fx.Node,
    part: Part,
    twins: Twins,
) -> fx.Node:
    """Call the part as a module of `module` before a node of the evaluation graph. Returns the
    call."""
    assert part.source is not None
    operands = _operands(part.nodes)
    operands.sort(key=lambda n: twins[n] is not part.source)  # what evaluation hands on is first
    body = _body(operands, part.nodes, part.result)
    name = register(module, f"{part.source.name}_train_only", TrainOnly(body))
    with graph.inserting_before(before):
        arguments: tuple[Any, ...] = tuple(as_stored(graph, twins[node]) for node in operands)
        call = graph.call_module(name, arguments)
    call.meta = {**part.result.meta, "example": part.source.meta["example"]}  # type: ignore[union-attr]
    return call


def updates_of_buffers(
    module: nn.Module, left: Sequence[fx.Node], merged: Twins
) -> list[fx.Node] | None:
    """Return the nodes of `left`, what training alone computes, of which nothing is returned: they
    change buffers in place for the next call, or have no effect. None where they change anything
    else, or read what cannot be handed to them.

    merged: node of the training graph -> the node that computes it in both modes."""
    unread: set[fx.Node] = set()
    for node in reversed(left):
        if unread.issuperset(node.users):
            unread.add(node)
    nodes = [n for n in left if n in unread]
    buffers = dict(module.named_buffers(remove_duplicate=False))
    operands = _operands(nodes)
    if any(n not in merged for n in operands) or any(n.op == "call_module" for n in nodes):
        return None
    if any(n.op == "get_attr" and n.target not in buffers for n in nodes):
        return None
    outer = {memory_of(n) for n in operands if n.target not in buffers or n.op != "get_attr"}
    modules = dict(module.named_modules(remove_duplicate=False))
    if any(memory_of(n) in outer for n in changed_in_place(nodes, modules)):
        return None
    behind = [n for n in left[0].graph.nodes if n not in unread and nodes and nodes[0] < n]
    read = {memory_of(n) for n in operands}  # at the end of forward, where the nodes will run
    return None if any(memory_of(n) in read for n in changed_in_place(behind, modules)) else nodes


def insert_updates(
    module: nn.Module, graph: fx.Graph, nodes: Sequence[fx.Node], twins: Twins
) -> None:
    """Let the merged graph run `updates_of_buffers` at its end, in a module that runs them while
    training."""
    read = [*_operands(nodes), *(n for n in nodes if n.op == "get_attr")]
    body = _body(read, [n for n in nodes if n.op != "get_attr"], None)
    name = register(module, "updates_of_buffers", Updates(body))
    with graph.inserting_before(graph.output_node()):
        arguments = tuple(as_stored(graph, twins.get(node, node)) for node in read)
        graph.call_module(name, arguments)


def _operands(nodes: Sequence[fx.Node]) -> list[fx.Node]:
    """What the nodes read that is not one of them, each once."""
    inside = set(nodes)
    return list(dict.fromkeys(n for node in nodes for n in node.all_input_nodes if n not in inside))


def _body(
    operands: Sequence[fx.Node], nodes: Sequence[fx.Node], result: fx.Node | None
) -> fx.Graph:
    """A graph whose arguments are the operands, that runs the nodes and returns one of both."""
    body, made = fx.Graph(), dict[fx.Node, fx.Node]()
    for node in operands:
        made[node] = body.placeholder(node.name)
        made[node].meta = dict(node.meta)
    for node in nodes:
        made[node] = body.node_copy(node, lambda n: made[n])
    body.output(None if result is None else made[result])
    detach_operands(body)
    for node in body.nodes:
        node.meta = {}
    return body
