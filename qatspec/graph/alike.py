"""Ops that read only the shape or the type of a tensor, written with these: `zeros_like(x)` is a
constant, `x.view_as(y)` a view by sizes, `x.type_as(y)` and `x.to(y)` casts."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import fx

#: function -> what it fills the tensor with; None: its argument.
_FILLED: dict[Any, float | None] = {
    torch.zeros_like: 0.0, torch.ones_like: 1.0, torch.full_like: None,
    "new_zeros": 0.0, "new_ones": 1.0, "new_full": None,
}  # fmt: skip
_SHAPED = {"view_as": "view", "reshape_as": "reshape"}


def write_with_sizes(graph: fx.Graph) -> None:
    """Rewrite such ops of a traced graph in place; names and meta stay."""
    for node in list(graph.nodes):
        if not node.args or not isinstance(node.args[0], fx.Node):
            continue
        if node.target in _FILLED:
            _replace(graph, node, _full)
        elif node.target in _SHAPED and node.op == "call_method" and len(node.args) == 2:
            _replace(graph, node, _shaped)
        elif node.op == "call_method" and _casts_like_another(node):
            _replace(graph, node, _cast)
        elif node.target == "new_tensor" and node.op == "call_method" and len(node.args) == 2:
            _replace(graph, node, _numbers)
        elif node.target in (torch.narrow, "narrow") and len(node.args) == 4:
            _replace(graph, node, _narrowed)


def _full(graph: fx.Graph, node: fx.Node) -> tuple[str, Any, Any, dict[str, Any]]:
    like, *rest = node.args
    fill: Any = _FILLED[node.target]
    kwargs = dict(node.kwargs)
    if node.op == "call_function":
        size: Any = _size(graph, node, like)
    elif fill is None:
        size, rest = (rest[0], rest[1:]) if rest else (kwargs.pop("size"), rest)
    else:
        sizes = rest or [kwargs.pop("size")]
        size, rest = (sizes[0] if _is_list(sizes[0]) else tuple(sizes)), []
    if fill is None:
        fill = rest[0] if rest else kwargs.pop("fill_value")
    example = node.meta["example"]
    device = _made(graph, node, getattr, (like, "device"), example.device)
    kwargs = {"dtype": example.dtype, "device": device}
    return "call_function", torch.full, (size, fill), kwargs


def _shaped(graph: fx.Graph, node: fx.Node) -> tuple[str, Any, Any, dict[str, Any]]:
    x, like = node.args
    return "call_method", _SHAPED[str(node.target)], (x, _size(graph, node, like)), {}


def _casts_like_another(node: fx.Node) -> bool:
    """Whether a call is `x.type_as(y)` or `x.to(y)`."""
    if node.target not in ("type_as", "to") or len(node.args) != 2 or node.kwargs:
        return False
    like = node.args[1]
    return isinstance(like, fx.Node) and isinstance(like.meta.get("example"), torch.Tensor)


def _cast(graph: fx.Graph, node: fx.Node) -> tuple[str, Any, Any, dict[str, Any]]:
    x, like = node.args
    example = node.meta["example"]
    device = _made(graph, node, getattr, (like, "device"), example.device)
    return "call_method", "to", (x, device, example.dtype), {}


def _numbers(graph: fx.Graph, node: fx.Node) -> tuple[str, Any, Any, dict[str, Any]]:
    like, numbers = node.args
    example = node.meta["example"]
    device = _made(graph, node, getattr, (like, "device"), example.device)
    return "call_function", torch.tensor, (numbers,), {"dtype": example.dtype, "device": device}


def _narrowed(graph: fx.Graph, node: fx.Node) -> tuple[str, Any, Any, dict[str, Any]]:
    arguments: Any = node.args
    x, dim, start, size = arguments
    rank, stop = x.meta["example"].ndim, _added(graph, node, start, size)
    index = [slice(None)] * (dim % rank) + [slice(start, stop)]
    return "call_function", operator.getitem, (x, tuple(index)), {}


def _added(graph: fx.Graph, node: fx.Node, start: Any, size: Any) -> Any:
    values = [v.meta["example"] if isinstance(v, fx.Node) else v for v in (start, size)]
    if values[0] < 0 and sum(values) == 0:
        return None  # up to the end
    if not isinstance(start, fx.Node) and not isinstance(size, fx.Node):
        return start + size
    return _made(graph, node, operator.add, (start, size), sum(values))


def _is_list(value: Any) -> bool:
    if isinstance(value, fx.Node):
        value = value.meta["example"]
    return isinstance(value, (list, tuple))


def _size(graph: fx.Graph, node: fx.Node, like: Any) -> fx.Node:
    return _made(graph, node, "size", (like,), like.meta["example"].size())


def _made(graph: fx.Graph, before: fx.Node, target: Any, args: Any, example: Any) -> fx.Node:
    op = "call_method" if isinstance(target, str) else "call_function"
    with graph.inserting_before(before):
        new = graph.create_node(op, target, args)
    new.meta.update({**before.meta, "example": example})
    return new


def _replace(graph: fx.Graph, node: fx.Node, form: Callable[..., Any]) -> None:
    if any("example" not in n.meta for n in (node, *node.all_input_nodes)):
        return
    node.op, node.target, node.args, node.kwargs = form(graph, node)
