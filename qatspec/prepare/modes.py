"""One graph for both modes: where training and evaluation differ, a module that knows the mode."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx, nn
from torch.utils import _pytree as pytree

from qatspec.graph.deploy import returned
from qatspec.graph.gradients import NO_GRAD
from qatspec.graph.ops import canonical_op
from qatspec.graph.sizes import fixed, is_plain
from qatspec.prepare.cached import find_cached, replace_cached
from qatspec.prepare.ends import modes_differ
from qatspec.prepare.functional import batch_norm_module, replace_call
from qatspec.prepare.train_only import (
    find_part,
    insert_part,
    insert_updates,
    updates_of_buffers,
)
from qatspec.prepare.unit import Difference, Unit
from qatspec.quant.train_only import DroppingAttention

_RATE = (("p", 0.5),)
#: A function that is told the mode -> the module that knows it, the names of its settings behind
#: the tensor, and their defaults.
_RANDOM: dict[Any, tuple[type[nn.Module], tuple[tuple[str, float], ...]]] = {
    F.dropout: (nn.Dropout, _RATE),
    torch.dropout: (nn.Dropout, _RATE),
    F.dropout1d: (nn.Dropout1d, _RATE),
    F.dropout2d: (nn.Dropout2d, _RATE),
    F.dropout3d: (nn.Dropout3d, _RATE),
    F.alpha_dropout: (nn.AlphaDropout, _RATE),
    torch.alpha_dropout: (nn.AlphaDropout, _RATE),
    F.feature_alpha_dropout: (nn.FeatureAlphaDropout, _RATE),
    torch.feature_alpha_dropout: (nn.FeatureAlphaDropout, _RATE),
    F.rrelu: (nn.RReLU, (("lower", 1 / 8), ("upper", 1 / 3))),
    torch.rrelu: (nn.RReLU, (("lower", 1 / 8), ("upper", 1 / 3))),
}
_ATTENTION = F.scaled_dot_product_attention
#: Its arguments; the fifth is told the mode.
_OF_ATTENTION = (
    "query", "key", "value", "attn_mask", "dropout_p", "is_causal", "scale", "enable_gqa"
)  # fmt: skip


def merge_modes(unit: Unit) -> None:
    """Make `unit.graph` hold in both modes.

    A functional dropout, attention or batch norm that is told the mode becomes a module, which
    knows it. So does a part of forward that runs while training alone, such as drop path. Where
    forward returns something else in each mode, `unit.difference` says what only one of them
    computes.
    Raises DiagnosticError QS503 with the line where forward differs in another way.
    """
    module, graph, training = unit.module, unit.graph, unit.training
    assert training is not None
    modules = dict(module.named_modules(remove_duplicate=False))
    twins: dict[fx.Node, fx.Node] = {}  # a node of training -> the same of evaluation
    parts: dict[fx.Node, fx.Node] = {}  # the result of a part of training alone -> its call
    alone: dict[fx.Node, None] = {}  # nodes of evaluation that training lacks

    def alike(node: fx.Node, other: fx.Node, known: dict[fx.Node, fx.Node]) -> bool:
        return _same(node, other, known) or _told_the_mode(node, other, known, modules)

    rest, passed = list(training.nodes), list[fx.Node]()
    for node in list(graph.nodes):
        if not rest or not alike(node, rest[0], twins):
            if _is_size(node) and not any(n in alone for n in node.all_input_nodes):
                continue  # evaluation asks for more; who reads it differs, and is told
            if cached := find_cached(module, node, rest):
                replace_cached(graph, node, cached, twins)
                rest = rest[len(cached) :]
                continue
            if part := find_part(node, rest, passed, twins, alike):
                if part.result is not None and part.source is not None:
                    parts[part.result] = insert_part(module, graph, node, part, twins)
                    twins[part.result] = part.source
                passed = [n for n in passed if n not in part.nodes]
                rest = [n for n in rest if n not in part.nodes]
            else:
                left = [*passed, *rest]
                twin = next((n for n in left if alike(node, n, twins)), None)
                if twin is None:
                    alone[node] = None
                    continue
                if twin in passed:
                    passed.remove(twin)
                    rest.insert(0, twin)
                else:
                    passed += rest[: rest.index(twin)]
                    rest = rest[rest.index(twin) :]
        other = rest.pop(0)
        if node.op == "call_module" and not _return_alike(node, other):
            raise modes_differ((node, other))
        same = _same(node, other, twins)
        if any(n in parts for n in other.all_input_nodes):
            merged = {**twins, **parts}
            node.args = fx.node.map_arg(other.args, lambda n: merged[n])  # noqa: B023
            node.kwargs = fx.node.map_arg(other.kwargs, lambda n: merged[n])  # noqa: B023
        twins[other] = node if same else _knowing_the_mode(module, graph, node, other, modules)
    for other, node in twins.items():
        node.meta[NO_GRAD] = other.meta.get(NO_GRAD)  # gradients are those of training
    left = [n for n in (*passed, *rest) if n.op != "output"]
    same = graph.output_node() not in alone and _form(graph) == _form(training)
    if same and left:
        updates = updates_of_buffers(module, left, {**twins, **parts}) or []
        if updates:
            insert_updates(module, graph, updates, {**twins, **parts})
            left = [n for n in left if n not in updates]
    if same and left:
        raise modes_differ(left[:1])
    merged = {other: node for other, node in {**twins, **parts}.items() if node.op != "output"}
    alone.pop(graph.output_node(), None)
    unit.difference = Difference(list(alone), left, merged, same)


def _is_size(node: fx.Node) -> bool:
    return node.target is fixed or is_plain(node.meta.get("example"))


def _form(graph: fx.Graph) -> Any:
    """How the outputs of a graph nest, apart from the nodes."""
    return pytree.tree_structure(returned(graph))


def _told_the_mode(
    node: fx.Node,
    other: fx.Node,
    twins: dict[fx.Node, fx.Node],
    modules: dict[str, nn.Module],
) -> bool:
    """Whether two nodes are one dropout, attention or batch norm that is told the mode."""
    if node.op != "call_function" or node.target is not other.target:
        return False
    if canonical_op(node, modules) == "batch_norm":
        return _same(node, other, twins, but=(5, "training"))
    if node.target is _ATTENTION:
        return _same(node, other, twins, but=(_OF_ATTENTION.index("dropout_p"), "dropout_p"))
    return node.target in _RANDOM and twins.get(other.args[0]) is node.args[0]  # type: ignore[arg-type]


def _knowing_the_mode(
    module: nn.Module,
    graph: fx.Graph,
    node: fx.Node,
    other: fx.Node,
    modules: dict[str, nn.Module],
) -> fx.Node:
    """Such a dropout, attention or batch norm as a module."""
    if node.target is _ATTENTION:
        return _keep_attention(module, graph, node, other)
    if node.target in _RANDOM:
        return _keep_random(module, graph, node, other)
    return batch_norm_module(module, graph, node, fixed=False)


def _same(
    node: fx.Node,
    other: fx.Node,
    twins: dict[fx.Node, fx.Node],
    but: tuple[int, str] = (sys.maxsize, ""),
) -> bool:
    """Whether two nodes are alike, apart from the argument `but` (its position and its name). An
    operand without a twin is like no other argument."""
    if (node.op, node.target) != (other.op, other.target):
        return False

    def arguments(of: fx.Node, name: Callable[[fx.Node], str]) -> str:
        args = [arg for i, arg in enumerate(of.args) if i != but[0]]
        kwargs = {key: arg for key, arg in of.kwargs.items() if key != but[1]}
        return repr(fx.node.map_arg((args, kwargs), name))

    mine = arguments(node, lambda a: f"node {id(a)}")
    theirs = arguments(other, lambda a: f"node {id(twins.get(a, a))}")
    return mine == theirs


def _return_alike(node: fx.Node, other: fx.Node) -> bool:
    """Whether a module returns as many tensors, in the same containers, in both modes. True where
    it is not known."""
    examples = [n.meta.get("example") for n in (node, other)]
    if any(example is None for example in examples):
        return True
    one, two = map(pytree.tree_structure, examples)
    return bool(one == two)


def _keep_random(module: nn.Module, graph: fx.Graph, node: fx.Node, other: fx.Node) -> fx.Node:
    """F.dropout(x, p, self.training) becomes a module, which knows the mode itself."""
    kind, settings = _RANDOM[node.target]
    named = dict(zip((name for name, _ in settings), other.args[1:], strict=False))
    values = {**dict(settings), **other.kwargs, **named}
    kept = kind(**{name: float(values[name]) for name, _ in settings})  # type: ignore[arg-type]
    return replace_call(module, graph, node, kept, node.args[0])


def _attention_arguments(node: fx.Node) -> dict[str, Any]:
    return {**dict(zip(_OF_ATTENTION, node.args, strict=False)), **node.kwargs}


def _keep_attention(module: nn.Module, graph: fx.Graph, node: fx.Node, other: fx.Node) -> fx.Node:
    """An attention that drops weights while training becomes a module, which knows the mode."""
    kept = DroppingAttention(float(_attention_arguments(other)["dropout_p"]))
    arguments = {name: v for name, v in _attention_arguments(node).items() if name != "dropout_p"}
    tensors = [arguments.pop(name, None) for name in _OF_ATTENTION[:4]]
    return replace_call(module, graph, node, kept, *tensors, **arguments)
