"""Cut a graph where training and evaluation part: the network before is quantized, what each mode
alone computes behind it stays in float (`qatspec.graph.ends`)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from torch import fx, nn
from torch.fx.graph import _PyTreeCodeGen, _PyTreeInfo
from torch.utils import _pytree as pytree

from qatspec.diag import DiagnosticError
from qatspec.diag.codes import QS503
from qatspec.graph.arguments import TreeCodeGen
from qatspec.graph.ends import Ends, call
from qatspec.graph.gradients import cut_gradients, detach_operands
from qatspec.graph.sizes import is_plain
from qatspec.graph.source import line_span
from qatspec.graph.spelling import changed_in_place, memory_of
from qatspec.prepare.functional import register
from qatspec.prepare.stored import as_stored

#: What an end reads: a node of the network, or the path of a parameter, buffer or module.
Read = fx.Node | str


@dataclass(frozen=True, slots=True)
class End:
    """What one mode computes behind the network.

    nodes   in order; operand: the node that stands for an operand of one of them.
    source  the graph that was traced in this mode, which says what forward returns.
    """

    nodes: Sequence[fx.Node]
    operand: Callable[[fx.Node], fx.Node]
    source: fx.Graph


def attach(
    module: nn.Module, graph: fx.Graph, network: set[fx.Node], training: End, evaluation: End
) -> fx.Node:
    """Let `graph`, the graph of evaluation, compute the nodes of `network` and then what the mode
    asks for. Returns the call of the `Ends`, which is the graph's result."""
    read = dict.fromkeys(key for end in (training, evaluation) for key in _read(end, network))
    ends = Ends(_graph(training, list(read)), _graph(evaluation, list(read)))
    buffers = dict(module.named_buffers(remove_duplicate=False))
    inputs = (n for n in ends.in_training.graph.nodes if n.op == "placeholder")
    trained = [n for n, key in zip(inputs, read, strict=True) if _path(key) not in buffers]
    cut_gradients(module, ends.in_training.graph, trained_inputs=trained)
    detach_operands(ends.in_training.graph)
    ends.in_training.recompile()
    path = register(module, "end_of_forward", ends)
    output = graph.output_node()
    modules = dict(module.named_modules(remove_duplicate=False))
    written = {memory_of(n) for n in changed_in_place(training.nodes, modules)}

    def argument(key: Read) -> fx.Node:
        if isinstance(key, str):
            return graph.get_attr(key)
        return as_stored(graph, key) if memory_of(key) in written else key

    with graph.inserting_before(output):
        args = tuple(map(argument, read))
        end = graph.call_module(path, args)
    end.meta["owner"] = path
    output.args = (end,)
    if isinstance(graph._codegen, _PyTreeCodeGen):
        graph.set_codegen(TreeCodeGen(graph._codegen.pytree_info._replace(out_spec=None)))
    for node in reversed(graph.nodes):
        if node not in network and node not in (end, output, *args):
            graph.erase_node(node)
    return end


def closed(graph: fx.Graph, network: set[fx.Node], results: Iterable[fx.Node]) -> set[fx.Node]:
    """Return the part of `network` that computes `results`, with the inputs and the sizes of what
    it computes."""
    needed = {n for n in graph.nodes if n.op == "placeholder"}
    waiting = list(results)
    while waiting:
        node = waiting.pop()
        if node not in needed:
            needed.add(node)
            waiting += node.all_input_nodes
    for node in graph.nodes:
        plain = node in network and is_plain(node.meta.get("example"))
        if plain and needed.issuperset(node.all_input_nodes):
            needed.add(node)
    return needed


def training_nodes(
    training: fx.Graph,
    network: set[fx.Node],
    only: Sequence[fx.Node],
    merged: Mapping[fx.Node, fx.Node],
) -> list[fx.Node]:
    """The nodes of the end of training, in order: those that only training has, and of `merged`
    (node of training -> its node in the merged graph) those behind the network."""
    body: dict[fx.Node, None] = {}

    def add(node: fx.Node) -> None:
        if node not in network and node not in body:
            for operand in node.all_input_nodes:
                add(merged.get(operand, operand))
            body[node] = None

    alone = set(only)
    for node in training.nodes:
        if node.op != "output" and (node in alone or node in merged):
            add(node if node in alone else merged[node])
    return list(body)


def _path(key: Read) -> str:
    """The path of the parameter, buffer or module that an end reads; that of a node is empty."""
    if isinstance(key, str):
        return key
    return str(key.target) if key.op == "get_attr" else ""


def _returned(end: End) -> Iterator[fx.Node]:
    for node in end.source.output_node().all_input_nodes:
        yield end.operand(node)


def _read(end: End, network: set[fx.Node]) -> Iterator[Read]:
    """What an end reads that it does not compute."""
    for node in end.nodes:
        yield from (n for n in map(end.operand, node.all_input_nodes) if n in network)
        if node.op in ("get_attr", "call_module"):
            yield str(node.target)
    yield from (n for n in _returned(end) if n in network)


def _graph(end: End, read: Sequence[Read]) -> fx.Graph:
    """The graph of an end, whose arguments are what both ends read."""
    graph, made = fx.Graph(), dict[Read, fx.Node]()
    names: dict[str, None] = {}
    for key in read:
        name = str(key).replace(".", "_")
        while name in names:
            name += "_"
        names[name] = None
        made[key] = graph.placeholder(name)
        if isinstance(key, fx.Node):
            made[key].meta = dict(key.meta)
    for node in end.nodes:  # a parameter has the shape that passes look for
        if node.op == "get_attr" and "example" in node.meta:
            made[str(node.target)].meta["example"] = node.meta["example"]

    def here(node: fx.Node) -> fx.Node:
        return made[end.operand(node)]

    for node in end.nodes:
        if node.op == "get_attr":
            made[node] = made[str(node.target)]
        elif node.op == "call_module":
            args, kwargs = fx.node.map_arg((node.args, node.kwargs), here)
            made[node] = graph.call_function(call, (made[str(node.target)], *args), kwargs)
            made[node].meta = dict(node.meta)
        else:
            made[node] = graph.node_copy(node, here)
    output = graph.output(fx.node.map_arg(end.source.output_node().args[0], here))
    output.meta = dict(end.source.output_node().meta)
    codegen = end.source._codegen
    if isinstance(codegen, _PyTreeCodeGen) and codegen.pytree_info.out_spec is not None:
        inputs = pytree.tree_structure([0] * len(names))
        info = _PyTreeInfo(list(names), inputs, codegen.pytree_info.out_spec)
        graph.set_codegen(TreeCodeGen(info))
    return graph


def ending_at(paths: Iterable[str]) -> str:
    """The advice to end the network at these modules."""
    return (
        f"add `boundary: [{', '.join(paths)}]` to `prepare`, so that what follows these modules "
        "stays in float"
    )


def modes_differ(nodes: Iterable[fx.Node], boundary: Sequence[str] = ()) -> DiagnosticError:
    """QS503 at the nodes. boundary: modules at which the network could end."""
    places = sorted({str(n.meta.get("source")) for n in nodes} - {"", "None"})
    where = " and ".join(places) or "its return value"
    earlier = f"{ending_at(boundary)}; or " if boundary else ""
    return QS503.error(
        f"forward does different things in training and in evaluation, at {where}",
        help=f"{earlier}move what only one mode needs out of the prepared module: into the loss, "
        "the post-process, or the model around it; or, where a module returns one "
        "tensor in both, keep it as it is: `prepare: {non_traceable_module_class: [...]}`",
        span=line_span(places[0]) if places else None,
    )
