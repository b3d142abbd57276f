"""Where gradients end: what forward computes under torch.no_grad()."""

from __future__ import annotations

import operator
from collections.abc import Iterable
from typing import Any

import torch
from torch import fx, nn

from qatspec.diag import Diagnostic, DiagnosticError
from qatspec.diag.codes import QS515
from qatspec.graph.source import line_span
from qatspec.graph.spelling import writes_in_place

#: In a node's meta: whether forward had gradients switched off when it made the node.
NO_GRAD = "no_grad"


def cut_gradients(
    root: nn.Module, graph: fx.Graph, *, trained_inputs: Iterable[fx.Node] = ()
) -> None:
    """Detach results of torch.no_grad() where they are read outside of it, so that the graph
    trains the parameters that forward trains.

    Only what depends on a parameter or on `trained_inputs` is detached: nothing else has a
    gradient.

    Raises DiagnosticError QS515 for a change in place under torch.no_grad(), which autograd does
    not see: the gradient of what is read later passes as if nothing had been changed."""
    trained = set(trained_inputs)
    refused: list[Diagnostic] = []
    modules = dict(root.named_modules(remove_duplicate=False))
    for node in list(graph.nodes):
        inputs = node.all_input_nodes
        parts = node.target is operator.getitem and inputs[0] in trained and _off(inputs[0])
        if parts and not isinstance(inputs[0].meta.get("example"), torch.Tensor):
            node.meta[NO_GRAD] = True  # a tensor of a list that was computed without gradients
        if _has_parameters(root, node) or any(n in trained for n in inputs):
            trained.add(node)
            if _off(node) and _is_float(node.meta.get("example")):
                others = [user for user in node.users if not _off(user)]
                changed = node.args[0] if node.args else None
                if others and changed in trained and writes_in_place(node, modules):
                    refused.append(_change_without_gradient(node))
                _detach(graph, node, others)
    if refused:
        raise DiagnosticError(refused)


def detach_operands(graph: fx.Graph) -> None:
    """Let what forward computes under torch.no_grad() read detached operands, in a part of forward
    that is a graph of its own: then it changes buffers in place as forward does, and what it hands
    on has no gradient."""
    for node in list(graph.nodes):
        if not _off(node) or node.op == "placeholder":
            continue
        for operand in node.all_input_nodes:
            if _off(operand) and operand.op != "placeholder":
                continue
            if isinstance(operand.meta.get("example"), torch.Tensor):
                with graph.inserting_before(node):
                    node.replace_input_with(operand, graph.call_method("detach", (operand,)))


def _change_without_gradient(node: fx.Node) -> Diagnostic:
    return QS515.diagnostic(
        f"`{node.name}` changes a tensor in place under torch.no_grad(), so that "
        "gradients pass it as if nothing had been changed, which a prepared graph cannot do",
        help="move it out of torch.no_grad() and write it without an in-place op, such as "
        "`y = y.clamp(0, 6)`: gradients then are those of the op",
        span=line_span(str(node.meta.get("source", ""))),
    )


def _detach(graph: fx.Graph, node: fx.Node, others: list[fx.Node]) -> None:
    """Let `others` read the detached result of `node`."""
    if not others:
        return
    with graph.inserting_after(node):
        detached = graph.call_method("detach", (node,))
    detached.meta.update(node.meta)
    for user in others:
        user.replace_input_with(node, detached)


def _off(node: fx.Node) -> bool:
    return bool(node.meta.get(NO_GRAD))


def _is_float(example: Any) -> bool:
    return isinstance(example, torch.Tensor) and example.is_floating_point()


def _has_parameters(root: nn.Module, node: fx.Node) -> bool:
    if node.op not in ("call_module", "get_attr"):
        return False
    owner, _, name = str(node.target).rpartition(".")
    value = getattr(root.get_submodule(owner), name)
    if isinstance(value, nn.Module):
        return any(True for _ in value.parameters())
    return isinstance(value, nn.Parameter)
