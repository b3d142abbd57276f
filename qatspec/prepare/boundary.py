"""Where the quantized network ends: before what only one mode computes, or where the spec says."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from torch import fx, nn

from qatspec.diag import Diagnostic
from qatspec.diag.codes import QS517, QS518
from qatspec.diag.words import quote_list
from qatspec.graph.context import GraphContext
from qatspec.graph.sizes import fixed, is_plain
from qatspec.prepare.capture import module_at
from qatspec.prepare.ends import End, attach, closed, modes_differ, training_nodes
from qatspec.prepare.unit import Difference, Unit
from qatspec.types import OpTrait


def end_network(unit: Unit) -> None:
    """Cut off what follows the network, where forward returns something else in each mode or
    `prepare` has a `boundary`. Warns (QS517) of what then stays in float.

    Raises DiagnosticError: QS503 where a weight is used in different ways in both modes, QS505 for
    a boundary that does not exist, QS518 for one that nothing follows."""
    difference, training = unit.difference, unit.training
    assert difference is not None and training is not None
    unit.difference = unit.training = None
    asked = unit.config.boundary
    if difference.same and not asked:
        return
    graph = unit.graph
    network = _before(unit, difference)
    nodes = training_nodes(training, network, difference.training, difference.merged)
    behind = [n for n in graph.nodes if n not in network and n.op != "output"]
    _demand_own_weights(unit, network, difference, (*behind, *nodes))
    unit.warnings += _reports(unit, behind, nodes)
    merged = difference.merged
    unit.end = attach(
        unit.module,
        graph,
        network,
        End(nodes, lambda n: merged.get(n, n), training),
        End(behind, lambda n: n, graph),
    )


def _before(unit: Unit, difference: Difference) -> set[fx.Node]:
    """The nodes of the network."""
    alone = set(difference.evaluation)
    network = {n for n in unit.graph.nodes if n.op != "output" and n not in alone}
    if not unit.config.boundary:
        return network if unit.quantize_output else _without_last_moves(unit, network)
    last: list[fx.Node] = []
    for path in unit.config.boundary:
        module_at(unit.module, path, unit.at)
        inside = {n for n in network if _is_inside(n, path)}
        leaving = [n for n in inside if not inside.issuperset(n.users)]
        if not leaving:
            raise QS518.error(
                f"the boundary `{path}` is no part of what both modes compute",
                help="name modules whose result forward uses in training and in evaluation",
                at=unit.at or None,
            )
        last += leaving
    return closed(unit.graph, network, last)


def _without_last_moves(unit: Unit, network: set[fx.Node]) -> set[fx.Node]:
    """The network without the views, permutations and concatenations at its end: an output that is
    not quantized is the sum of a conv."""
    context = GraphContext(unit.module, unit.graph)
    network = set(network)
    for node in reversed(unit.graph.nodes):
        readers = [user for user in node.users if not is_plain(user.meta.get("example"))]
        moves = context.has_trait(node, OpTrait.MOVES)
        if node in network and readers and network.isdisjoint(readers) and moves:
            network.remove(node)
    for node in unit.graph.nodes:
        if node in network and not network.issuperset(node.all_input_nodes):
            network.remove(node)  # a size
    return network


def _is_inside(node: fx.Node, path: str) -> bool:
    owner = node.target if node.op == "call_module" else node.meta.get("owner")
    return node.op.startswith("call_") and f"{owner}.".startswith(f"{path}.")


def _demand_own_weights(
    unit: Unit, network: set[fx.Node], difference: Difference, behind: Sequence[fx.Node]
) -> None:
    """Raise DiagnosticError QS503 where a module with weights is called in the network and behind
    it, or on something else in each mode."""
    differing = (*difference.evaluation[:1], *difference.training[:1])
    weights = _Weights(unit.module)
    if weights.of(network) & weights.of(behind):
        raise modes_differ(differing or behind[:1])
    if unit.config.boundary:
        return
    if weights.of(difference.evaluation) & weights.of(difference.training):
        raise modes_differ(differing, _suggested(unit, network, difference, weights))


def _suggested(
    unit: Unit, network: set[fx.Node], difference: Difference, weights: _Weights
) -> list[str]:
    """The modules whose results are what only one mode reads, if they can be a boundary."""
    read: set[fx.Node] = set()
    for node in (*difference.evaluation, *difference.training):
        read.update(difference.merged.get(n, n) for n in node.all_input_nodes)
    last = [n for n in unit.graph.nodes if n in read and n in network and n.op == "call_module"]
    before = closed(unit.graph, network, last)
    if weights.of(before) & weights.of((*(network - before), *difference.evaluation)):
        return []
    return list(dict.fromkeys(str(n.target) for n in last))


class _Weights:
    """The parameters of modules, by id."""

    def __init__(self, module: nn.Module) -> None:
        self._module = module

    def of(self, nodes: Iterable[fx.Node]) -> set[int]:
        """Those of the modules that nodes call."""
        paths = {str(n.target) for n in nodes if n.op == "call_module"}
        return {id(p) for path in paths for p in self._module.get_submodule(path).parameters()}


def _reports(
    unit: Unit, behind: Sequence[fx.Node], training: Sequence[fx.Node]
) -> Iterator[Diagnostic]:
    """QS517 for what only evaluation computes, and for what only training computes."""
    context, both = GraphContext(unit.module, unit.graph), {*behind} & {*training}
    for mode, nodes, becomes, advice in (
        ("evaluation", behind, "it runs behind the quantized network, as its post-process", _POST),
        ("training", training, "the quantized network and its files lack it", _TRAINING),
    ):
        ops = [n for n in nodes if n not in both and _computes(n)]
        if ops:
            names = dict.fromkeys(map(context.label, ops))
            yield QS517.warning(
                f"what forward computes in {mode} alone ({quote_list(list(names))}) stays in "
                f"float: {becomes}",
                help=advice,
                span=unit.span(ops[0]),
            )


_POST = (
    "nothing, if you mean that: convert writes it beside the integers as `-post.onnx`; what is to "
    "be quantized has to run in training too"
)
_TRAINING = "nothing, if you mean that: an auxiliary head trains the layers before it, and is done"


def _computes(node: fx.Node) -> bool:
    is_call = node.op.startswith("call_") and node.target is not fixed
    return is_call and not is_plain(node.meta.get("example"))
