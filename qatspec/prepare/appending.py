"""Nodes that take the place of another one, with example values."""

from __future__ import annotations

import itertools
import operator
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch._subclasses.fake_tensor import FakeTensor

from qatspec.graph.sizes import fixed, is_plain


class Appending(fx.proxy.GraphAppendingTracer):
    """Appends nodes that have an example value and stand for `origin`, a node of the graph of
    `root`."""

    def __init__(self, root: nn.Module, graph: fx.Graph, origin: fx.Node) -> None:
        super().__init__(graph)
        self.module, self.origin = root, origin

    def create_node(self, *args: Any, **kwargs: Any) -> fx.Node:
        node = super().create_node(*args, **kwargs)
        node.meta.update({**self.origin.meta, "example": self._example(node)})
        return node

    def buffer(self, value: Tensor) -> fx.Proxy:
        """A constant, which moves with the model and is not in state dicts."""
        names = (f"{self.origin.name}_mask{i or ''}" for i in itertools.count())
        name = next(n for n in names if not hasattr(self.module, n))
        device = next((p.device for p in self.module.parameters()), value.device)
        self.module.register_buffer(name, value.to(device), persistent=False)
        return self.create_proxy("get_attr", name, (), {})

    def _example(self, node: fx.Node) -> Any:
        """The example value of a new node, from those of its operands."""
        args, kwargs = fx.node.map_arg((node.args, node.kwargs), lambda n: n.meta["example"])
        if node.op == "get_attr":
            value = operator.attrgetter(str(node.target))(self.module)
            examples = (n.meta.get("example") for n in node.graph.nodes)
            fakes = (e for e in examples if isinstance(e, FakeTensor))
            return next(fakes).fake_mode.from_tensor(value)
        if node.op == "call_module":
            return torch.empty_like(args[0])  # type: ignore[arg-type]
        if node.op == "call_method":
            return getattr(args[0], str(node.target))(*args[1:], **kwargs)
        return node.target(*args, **kwargs)  # type: ignore[operator]


_PARTS = (operator.getitem, len)


def take_place(node: fx.Node, result: Any, made: list[fx.Node]) -> bool:
    """Let what reads a node read `result` instead, and erase what is no longer read.

    node    replaced by a proxy, or one of several results by those of a tuple.
    result  what its definition gives; anything else than proxies leaves the node as it is.
    made    the nodes that the definition has appended.

    Returns whether the node was replaced.
    """
    if isinstance(result, fx.Proxy):
        node.replace_all_uses_with(result.node, propagate_meta=False)
    elif isinstance(result, tuple):
        for user in list(node.users):
            if user.target is len:  # of an assignment to several names
                _become_number(user, len(result))
                continue
            if user.op == "call_function" and user.args[0] is node and user.target not in _PARTS:
                user.args = ([part.node for part in result], *user.args[1:])  # torch.stack(parts)
                continue
            index: Any = user.args[1] if user.target is operator.getitem else None
            part = None if index is None else result[index]
            if isinstance(part, fx.Proxy):
                user.replace_all_uses_with(part.node, propagate_meta=False)
                node.graph.erase_node(user)
    replaced = isinstance(result, (fx.Proxy, tuple)) and not node.users
    if replaced:
        node.graph.erase_node(node)
    for new in reversed(made):
        if replaced and new.target is fixed:
            continue
        if not new.users and not (replaced and isinstance(result, fx.Proxy) and new is result.node):
            new.graph.erase_node(new)
    return replaced


def _become_number(node: fx.Node, value: int) -> None:
    for user in list(node.users):
        user.args = fx.node.map_arg(user.args, lambda n: value if n is node else n)
    node.graph.erase_node(node)


def between(first: fx.Node, last: fx.Node) -> list[fx.Node]:
    """The nodes behind `first` and before `last`."""
    nodes, node = [], first.next
    while node is not last:
        nodes.append(node)
        node = node.next
    return nodes


def is_table(node: fx.Node) -> bool:
    """Return whether a value depends on no number of an input, but perhaps on sizes."""
    waiting, visited = [node], {node}
    while waiting:
        here = waiting.pop()
        if here.op == "get_attr" or is_plain(here.meta.get("example")):
            continue
        if not here.op.startswith("call_"):
            return False
        waiting += [n for n in here.all_input_nodes if n not in visited]
        visited.update(here.all_input_nodes)
    return True


def example_number(value: Any) -> Any:
    """The number that a proxy of one stands for in the example, which later inputs must have, too
    (`fixed`); anything else as it is."""
    if not isinstance(value, fx.Proxy) or not is_plain(value.node.meta.get("example")):
        return value
    number, tracer = value.node.meta["example"], value.tracer
    assert isinstance(tracer, Appending)
    source = str(tracer.origin.meta.get("source", ""))
    tracer.create_proxy("call_function", fixed, (value, number, source), {})
    return number
