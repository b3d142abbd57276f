"""`scaled_dot_product_attention` becomes the ops that it consists of.

The integer model computes the scores and the probabilities as tensors of their own, each with a
scale; as separate ops they have fake-quants in training too.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx, nn

from qatspec.graph.context import GraphContext


#: Arguments of the call behind query, key and value, and what they are where they are not given.
@dataclass(frozen=True, slots=True)
class _Attention:
    query: Any
    key: Any
    value: Any
    attn_mask: Any = None
    dropout_p: float = 0.0
    is_causal: bool = False
    scale: Any = None
    enable_gqa: bool = False


def decompose_attention(root: nn.Module, graph: fx.Graph) -> None:
    """Write each call as softmax(query @ key^T * scale + mask) @ value, torch's definition of it.

    A call with dropout, a boolean mask, `is_causal` or `enable_gqa` stays as it is.
    """
    context = GraphContext(root, graph)
    for node in list(graph.nodes):
        if node.op == "call_function" and node.target is F.scaled_dot_product_attention:
            _decompose(graph, node, context)


def _decompose(graph: fx.Graph, node: fx.Node, context: GraphContext) -> None:
    given = context.call(node, _Attention)
    mask, scale = given.attn_mask, given.scale
    changes = given.dropout_p or given.is_causal or given.enable_gqa
    if changes or not (mask is None or context.is_float_tensor(mask)):
        return

    def call(function: Callable[..., Any], *args: Any) -> fx.Node:
        new = graph.call_function(function, args)
        new.meta.update(node.meta)
        new.meta["example"] = function(*fx.node.map_arg(args, context.value))
        return new

    with graph.inserting_before(node):
        turned = call(torch.transpose, given.key, -2, -1)
        scores = call(torch.matmul, given.query, turned)
        if scale is None:
            size = call(operator.getitem, call(getattr, given.query, "shape"), -1)
            scale = call(operator.pow, size, -0.5)
        scores = call(operator.mul, scores, scale)
        if mask is not None:
            scores = call(operator.add, scores, mask)
        result = call(torch.matmul, call(torch.softmax, scores, -1), given.value)
    node.replace_all_uses_with(result, propagate_meta=False)
    graph.erase_node(node)
    result.name = node.name
