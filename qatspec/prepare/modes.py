"""One graph for both modes: where training and evaluation differ, a module that knows the mode."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import torch.nn.functional as F
from torch import fx, nn
from torch.utils import _pytree as pytree

from qatspec.diag import DiagnosticError
from qatspec.diag.codes import QS503
from qatspec.graph.gradients import NO_GRAD
from qatspec.graph.ops import canonical_op
from qatspec.graph.sizes import fixed, is_plain
from qatspec.graph.source import line_span
from qatspec.prepare.cached import find_cached, replace_cached
from qatspec.prepare.functional import batch_norm_module, replace_call
from qatspec.prepare.train_only import find_part, insert_part
from qatspec.prepare.unit import Unit

_DROPOUTS: dict[Any, type[nn.Module]] = {
    F.dropout: nn.Dropout,
    F.dropout1d: nn.Dropout1d,
    F.dropout2d: nn.Dropout2d,
    F.dropout3d: nn.Dropout3d,
}


def merge_modes(unit: Unit) -> None:
    """Make `unit.graph` hold in both modes.

    A functional dropout or batch norm that is told the mode becomes a module, which knows it. So
    does a part of forward that runs while training alone, such as drop path.
    Raises DiagnosticError QS503 with the line where forward differs in another way.
    """
    module, graph, training = unit.module, unit.graph, unit.training
    assert training is not None
    modules = dict(module.named_modules(remove_duplicate=False))
    twins: dict[fx.Node, fx.Node] = {}  # a node of training -> the same of evaluation
    parts: dict[fx.Node, fx.Node] = {}  # the result of a part of training alone -> its call

    def alike(node: fx.Node, other: fx.Node, known: dict[fx.Node, fx.Node]) -> bool:
        return _same(node, other, known) or _told_the_mode(node, other, known, modules)

    rest = list(training.nodes)
    for node in list(graph.nodes):
        if not rest:
            raise _differs(node)
        if not alike(node, rest[0], twins):
            if node.target is fixed or is_plain(node.meta.get("example")):
                continue  # evaluation asks for more; who reads it differs, and is told
            if cached := find_cached(module, node, rest):
                replace_cached(graph, node, cached, twins)
                rest = rest[len(cached) :]
                continue
            part = find_part(node, rest, twins, alike)
            if part is None:
                raise _differs(node, rest[0])
            if part.result is not None and part.source is not None:
                parts[part.result] = insert_part(module, graph, node, part, twins)
                twins[part.result] = part.source
            rest = rest[len(part.nodes) :]
        other = rest.pop(0)
        if node.op == "call_module" and not _return_alike(node, other):
            raise _differs(node, other)
        same = _same(node, other, twins)
        if any(n in parts for n in other.all_input_nodes):
            merged = {**twins, **parts}
            node.args = fx.node.map_arg(other.args, lambda n: merged[n])  # noqa: B023
            node.kwargs = fx.node.map_arg(other.kwargs, lambda n: merged[n])  # noqa: B023
        twins[other] = node if same else _knowing_the_mode(module, graph, node, other, modules)
    if rest:
        raise _differs(rest[0])
    for other, node in twins.items():
        node.meta[NO_GRAD] = other.meta.get(NO_GRAD)  # gradients are those of training
    unit.training = None


def _told_the_mode(
    node: fx.Node,
    other: fx.Node,
    twins: dict[fx.Node, fx.Node],
    modules: dict[str, nn.Module],
) -> bool:
    """Whether two nodes are one dropout or batch norm that is told the mode."""
    op = canonical_op(node, modules)
    if op != canonical_op(other, modules) or node.op != "call_function":
        return False
    if op == "batch_norm":
        return _same(node, other, twins, but=(5, "training"))
    return op == "dropout" and twins.get(other.args[0]) is node.args[0]  # type: ignore[arg-type]


def _knowing_the_mode(
    module: nn.Module,
    graph: fx.Graph,
    node: fx.Node,
    other: fx.Node,
    modules: dict[str, nn.Module],
) -> fx.Node:
    """Such a dropout or batch norm as a module."""
    if canonical_op(node, modules) == "dropout":
        return _keep_dropout(module, graph, node, other)
    return batch_norm_module(module, graph, node, fixed=False)


def _same(
    node: fx.Node,
    other: fx.Node,
    twins: dict[fx.Node, fx.Node],
    but: tuple[int, str] = (sys.maxsize, ""),
) -> bool:
    """Whether two nodes are alike, apart from the argument `but` (its position and its name)."""

    def arguments(of: fx.Node, name: Callable[[fx.Node], str | None]) -> str:
        args = [arg for i, arg in enumerate(of.args) if i != but[0]]
        kwargs = {key: arg for key, arg in of.kwargs.items() if key != but[1]}
        return repr(fx.node.map_arg((args, kwargs), name))

    mine = arguments(node, lambda a: a.name)
    theirs = arguments(other, lambda a: twins[a].name if a in twins else None)
    return (node.op, node.target, mine) == (other.op, other.target, theirs)


def _return_alike(node: fx.Node, other: fx.Node) -> bool:
    """Whether a module returns as many tensors, in the same containers, in both modes. True where
    it is not known."""
    examples = [n.meta.get("example") for n in (node, other)]
    if any(example is None for example in examples):
        return True
    one, two = map(pytree.tree_structure, examples)
    return bool(one == two)


def _keep_dropout(module: nn.Module, graph: fx.Graph, node: fx.Node, other: fx.Node) -> fx.Node:
    """F.dropout(x, p, self.training) becomes a module, which knows the mode itself."""
    rate = other.args[1] if len(other.args) > 1 else other.kwargs.get("p", 0.5)
    kept = _DROPOUTS[node.target](float(rate))  # type: ignore[arg-type]
    return replace_call(module, graph, node, kept, node.args[0])


def _differs(*nodes: fx.Node) -> DiagnosticError:
    places = sorted({str(n.meta.get("source")) for n in nodes} - {"", "None"})
    where = " and ".join(places) or "its return value"
    return QS503.error(
        f"forward does different things in training and in evaluation, at {where}",
        help="move what only one mode needs out of the prepared module: into the loss, the "
        "post-process, or the model around it; or, where a module returns one "
        "tensor in both, keep it as it is: `prepare: {non_traceable_module_class: [...]}`",
        span=line_span(places[0]) if places else None,
    )
