"""Tensors that forward computes from parameters and keeps for evaluation: attention biases.

Evaluation reads such a tensor as it was when it was kept; training computes it anew, and its
parameters change. Computing it is right in both modes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import fx, nn

from qatspec.graph.constants import evaluate

#: No such computation is longer than this many nodes.
_LONGEST = 16


def find_cached(
    module: nn.Module, node: fx.Node, training: Sequence[fx.Node]
) -> tuple[fx.Node, ...]:
    """Return the nodes at the start of `training`, the rest of the training graph, that compute
    from parameters alone what `node` of the evaluation graph reads from a cache; none where it
    reads a parameter or buffer, or another number."""
    if node.op != "get_attr" or str(node.target) in _tensors(module):
        return ()
    kept = evaluate(module, node)
    known: set[fx.Node] = set()
    for length, other in enumerate(training[:_LONGEST], 1):
        if other.op == "placeholder" or not known.issuperset(other.all_input_nodes):
            return ()
        if other.op not in ("get_attr", "call_function", "call_method"):
            return ()
        known.add(other)
        inside = set(training[:length])
        alone = all(inside.issuperset(n.users) for n in training[: length - 1])
        value = evaluate(module, other) if alone else None
        if isinstance(value, torch.Tensor) and torch.equal(value, kept):
            return tuple(training[:length])
    return ()


def replace_cached(
    graph: fx.Graph, node: fx.Node, nodes: Sequence[fx.Node], twins: dict[fx.Node, fx.Node]
) -> None:
    """Compute in place of `node` of the evaluation graph what it reads from a cache. nodes: those
    of the training graph; twins: node of training -> the same of evaluation, which are added."""
    with graph.inserting_before(node):
        for other in nodes:
            twins[other] = graph.node_copy(other, lambda n: twins[n])
            twins[other].meta = dict(other.meta)
    node.replace_all_uses_with(twins[nodes[-1]], propagate_meta=False)
    graph.erase_node(node)


def _tensors(module: nn.Module) -> set[str]:
    """Paths of all parameters and buffers."""
    return {*dict(module.named_parameters()), *dict(module.named_buffers())}
