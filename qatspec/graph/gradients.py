"""Where gradients end: what forward computes under torch.no_grad()."""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import fx, nn

#: In a node's meta: whether forward had gradients switched off when it made the node.
NO_GRAD = "no_grad"


def cut_gradients(root: nn.Module, graph: fx.Graph) -> None:
    """Detach results of torch.no_grad() where they are read outside of it, so that the graph
    trains the parameters that forward trains.

    Only what depends on a parameter is detached: nothing else has a gradient."""
    trained: set[fx.Node] = set()
    for node in list(graph.nodes):
        inputs = node.all_input_nodes
        parts = node.target is operator.getitem and inputs[0] in trained and _off(inputs[0])
        if parts and not isinstance(inputs[0].meta.get("example"), torch.Tensor):
            node.meta[NO_GRAD] = True  # a tensor of a list that was computed without gradients
        if _has_parameters(root, node) or any(n in trained for n in inputs):
            trained.add(node)
            if _off(node) and _is_float(node.meta.get("example")):
                _detach_for_others(graph, node)


def _detach_for_others(graph: fx.Graph, node: fx.Node) -> None:
    others = [user for user in node.users if not _off(user)]
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
    found = getattr(root.get_submodule(owner), name)
    if isinstance(found, nn.Module):
        return any(True for _ in found.parameters())
    return isinstance(found, nn.Parameter)
