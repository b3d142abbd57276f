"""Values that depend on no input: parameters, buffers, and what is computed from them alone."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn

from qatspec.graph.modes import eval_mode
from qatspec.graph.sizes import is_plain
from qatspec.quant.fake_quant import FakeQuantize
from qatspec.quant.modules import QuantOp, as_quant_op


def is_constant(x: Any) -> bool:
    """Return whether a value depends on no input."""
    if not isinstance(x, (fx.Proxy, fx.Node)):
        return True
    waiting = [x.node if isinstance(x, fx.Proxy) else x]
    visited = set(waiting)
    while waiting:  # a graph may be deeper than Python's stack
        node = waiting.pop()
        if node.op != "get_attr" and not node.op.startswith("call_"):
            return False
        waiting += [n for n in node.all_input_nodes if n not in visited]
        visited.update(node.all_input_nodes)
    return True


def evaluate(root: nn.Module, value: Any) -> Any:
    """The present value of an argument that depends on no input: a node's result, else itself.

    root: the module that the node's graph was traced from.
    """
    known: dict[fx.Node, Any] = {}

    def operand(node: fx.Node) -> Any:
        if is_plain(node.meta.get("example")):  # a number that comes from a shape
            return node.meta["example"]
        if node not in known:
            known[node] = result(root, node, operand)
        return known[node]

    return operand(value) if isinstance(value, fx.Node) else value


def result(root: nn.Module, node: fx.Node, operand: Callable[[fx.Node], Any]) -> Any:
    """What the call of a node gives in eval mode, from the values of its operands. A fake-quant
    rounds whatever the stage, that of a weight too: nothing is observed, and its switches play no
    part."""
    with torch.no_grad():
        if node.op == "get_attr":
            value = operator.attrgetter(str(node.target))(root)
            return value.detach() if isinstance(value, torch.Tensor) else value
        args, kwargs = fx.node.map_arg((node.args, node.kwargs), operand)
        if node.op == "call_function":
            return node.target(*args, **kwargs)  # type: ignore[operator]
        if node.op == "call_method":
            return getattr(args[0], str(node.target))(*args[1:], **kwargs)
        module = root.get_submodule(str(node.target))
        if isinstance(module, FakeQuantize):
            x: Any = args[0]
            return x if module.disabled else module.rounded(x)
        weighted = as_quant_op(module)
        if weighted is not None:
            operands: Any = (*args, *kwargs.values())
            return _weighted(weighted, *operands)
        with eval_mode(module):
            return module(*args, **kwargs)


def _weighted(op: QuantOp, x: Tensor, *operands: Tensor | None) -> Tensor:
    """A conv or linear with its weight on the weight's grid."""
    levels, scale = op.quantized_weight(*operands)
    weight = levels * op.geometry.per_channel(scale, levels)
    return op.geometry.apply(x, weight, op.folded(*operands)[1])


def of_numpy(value: Any) -> Any:
    """An array of NumPy as a tensor with a copy of its numbers, a number of NumPy as Python's, and
    anything else as it is: what torch makes of an operand or an index."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return torch.from_numpy(np.ascontiguousarray(value).copy())
    return value
