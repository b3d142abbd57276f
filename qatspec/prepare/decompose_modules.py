"""Composite modules become the ops that they consist of. Their parameters stay at their paths."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx, nn
from torch.utils import _pytree as pytree

from qatspec.graph.ops import module_op
from qatspec.prepare.appending import Appending, between, take_place
from qatspec.prepare.composites import POOL_MODULES, pool_module
from qatspec.prepare.decompose import attention, attention_weights
from qatspec.prepare.functional import register
from qatspec.quant.train_only import DroppingAttention


def decompose_modules(root: nn.Module, graph: fx.Graph) -> None:
    """Replace the calls of composite modules in `graph` by what they consist of."""
    modules = dict(root.named_modules(remove_duplicate=False))
    for node in list(graph.nodes):
        if node.op != "call_module" or "example" not in node.meta:
            continue
        module = modules[str(node.target)]
        definition = _DEFINITIONS.get(type(module))
        is_op = module_op(module) is not None and type(module) not in POOL_MODULES
        if definition is not None and not is_op:
            _replace(root, graph, node, definition, module)


def _replace(
    root: nn.Module,
    graph: fx.Graph,
    node: fx.Node,
    definition: Callable[..., Any],
    module: nn.Module,
) -> None:
    last = node.prev
    tracer = Appending(root, graph, node)
    args, kwargs = pytree.tree_map_only(
        fx.Node, lambda n: fx.Proxy(n, tracer), (tuple(node.args), dict(node.kwargs))
    )

    def parameter(name: str) -> Any:
        return tracer.create_proxy("get_attr", f"{node.target}.{name}", (), {})

    def child(new: nn.Module, x: Any) -> Any:
        path = register(root, f"{node.name}_dropout", new)
        return tracer.create_proxy("call_module", path, (x,), {})

    with graph.inserting_before(node):
        try:
            result = definition(module, parameter, child, *args, **kwargs)
        except (TypeError, fx.proxy.TraceError):
            result = NotImplemented
    take_place(node, result, between(last, node))


Definition = Callable[..., Any]


def _unfold(module: nn.Unfold, parameter: Definition, child: Definition, x: Any) -> Any:
    return F.unfold(x, module.kernel_size, module.dilation, module.padding, module.stride)


def _fold(module: nn.Fold, parameter: Definition, child: Definition, x: Any) -> Any:
    return F.fold(
        x, module.output_size, module.kernel_size, module.dilation, module.padding, module.stride
    )


def _glu(module: nn.GLU, parameter: Definition, child: Definition, x: Any) -> Any:
    return F.glu(x, module.dim)


def _attention(
    module: nn.MultiheadAttention,
    parameter: Definition,
    child: Definition,
    query: Any,
    key: Any,
    value: Any,
    key_padding_mask: Any = None,
    need_weights: bool = True,
    attn_mask: Any = None,
    average_attn_weights: bool = True,
    is_causal: bool = False,
) -> Any:
    """Attention of several heads: one linear layer before, one behind (Vaswani et al. 2017)."""
    unusual = module.bias_k is not None or module.add_zero_attn or key_padding_mask is not None
    rank = query.node.meta["example"].ndim
    if unusual or rank != 3 or not module._qkv_same_embed_dim:
        return NotImplemented
    same = query.node is key.node is value.node
    if not module.batch_first:
        query, key, value = (torch.transpose(x, 0, 1) for x in (query, key, value))
    size, heads = module.embed_dim, module.num_heads
    weight = parameter("in_proj_weight")
    bias = None if module.in_proj_bias is None else parameter("in_proj_bias")
    if same:
        parts = torch.chunk(F.linear(query, weight, bias), 3, -1)
        q, k, v = (parts[i] for i in range(3))
    else:
        rows = [slice(i * size, (i + 1) * size) for i in range(3)]
        q, k, v = (
            F.linear(x, weight[part], None if bias is None else bias[part])
            for x, part in zip((query, key, value), rows, strict=True)
        )

    def by_head(x: Any) -> Any:
        length = x.node.meta["example"].shape[1]
        return torch.transpose(x.reshape(x.size(0), length, heads, size // heads), 1, 2)

    if attn_mask is not None and not attn_mask.node.meta["example"].is_floating_point():
        attn_mask = torch.logical_not(attn_mask)  # here True is what is not read
    weights = attention_weights(by_head(q), by_head(k), attn_mask)
    if weights is NotImplemented:
        return NotImplemented
    if module.dropout:
        weights = child(nn.Dropout(module.dropout), weights)
    y = torch.transpose(torch.matmul(weights, by_head(v)), 1, 2)
    y = y.reshape(query.size(0), query.node.meta["example"].shape[1], size)
    out_bias = None if module.out_proj.bias is None else parameter("out_proj.bias")
    y = F.linear(y, parameter("out_proj.weight"), out_bias)
    if not module.batch_first:
        y = torch.transpose(y, 0, 1)
    if not need_weights:
        return y, None
    return y, weights.mean(1) if average_attn_weights else weights


def _dropping_attention(
    module: DroppingAttention, parameter: Definition, child: Definition, *args: Any, **kwargs: Any
) -> Any:
    def drop(weights: Any) -> Any:
        return child(nn.Dropout(module.rate), weights)

    return attention(*args, **{**kwargs, "drop": drop})


_DEFINITIONS: Mapping[type[nn.Module], Definition] = {
    DroppingAttention: _dropping_attention,
    **dict.fromkeys(POOL_MODULES, pool_module),
    nn.Unfold: _unfold,
    nn.Fold: _fold,
    nn.GLU: _glu,
    nn.MultiheadAttention: _attention,
}
