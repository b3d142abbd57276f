"""Values that depend on no input: parameters, buffers, and what is computed from them alone."""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import fx, nn

from qatspec.quant.fake_quant import FakeQuantize


def evaluate(root: nn.Module, value: Any) -> Any:
    """The present value of an argument that depends on no input: a node's result, else itself.

    root: the module that the node's graph was traced from.
    """
    if not isinstance(value, fx.Node):
        return value
    with torch.no_grad():
        return _result(root, value)


def _result(root: nn.Module, node: fx.Node) -> Any:
    if node.op == "get_attr":
        found = operator.attrgetter(str(node.target))(root)
        return found.detach() if isinstance(found, torch.Tensor) else found
    args, kwargs = fx.node.map_arg((node.args, node.kwargs), lambda n: _result(root, n))
    if node.op == "call_function":
        return node.target(*args, **kwargs)  # type: ignore[operator]
    if node.op == "call_method":
        return getattr(args[0], str(node.target))(*args[1:], **kwargs)
    module = root.get_submodule(str(node.target))
    if isinstance(module, FakeQuantize) and not module.disabled:
        # Whatever the stage: nothing is observed, and switches play no part.
        x: Any = args[0]
        return module.quantize(x) * module.scale
    return module(*args, **kwargs)
