"""Values that depend on no input: parameters, buffers, and what is computed from them alone."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import fx, nn

from qatspec.quant.fake_quant import FakeQuantize


def evaluate(root: nn.Module, value: Any) -> Any:
    """The present value of an argument that depends on no input: a node's result, else itself.

    root: the module that the node's graph was traced from.
    """
    known: dict[fx.Node, Any] = {}

    def operand(node: fx.Node) -> Any:
        if node not in known:
            known[node] = result(root, node, operand)
        return known[node]

    return operand(value) if isinstance(value, fx.Node) else value


def result(root: nn.Module, node: fx.Node, operand: Callable[[fx.Node], Any]) -> Any:
    """What the call of a node gives, from the values of its operands. A fake-quant rounds whatever
    the stage: nothing is observed, and its switches play no part."""
    with torch.no_grad():
        if node.op == "get_attr":
            found = operator.attrgetter(str(node.target))(root)
            return found.detach() if isinstance(found, torch.Tensor) else found
        args, kwargs = fx.node.map_arg((node.args, node.kwargs), operand)
        if node.op == "call_function":
            return node.target(*args, **kwargs)  # type: ignore[operator]
        if node.op == "call_method":
            return getattr(args[0], str(node.target))(*args[1:], **kwargs)
        module = root.get_submodule(str(node.target))
        if isinstance(module, FakeQuantize):
            x: Any = args[0]
            return x if module.disabled else module.rounded(x)
        return module(*args, **kwargs)
