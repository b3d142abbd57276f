"""Constants: what a node computes from parameters alone, whatever stage the fake-quants are in."""

from __future__ import annotations

from operator import attrgetter
from typing import Any

import torch
from torch import fx

from qatspec.graph.deploy import carries_tensor
from qatspec.lower.closing import fake_quant_of, target_of
from qatspec.lower.context import Constant, Lowering
from qatspec.quant.fake_quant import FakeQuantize


def fold(node: fx.Node, lowering: Lowering) -> bool:
    """Is `node` a parameter, or computed from parameters and numbers alone? Then its value stands
    in `lowering.constants` afterwards."""
    context = lowering.context
    inputs = [n for n in node.all_input_nodes if carries_tensor(context.value(n))]
    if node.op == "placeholder" or any(n not in lowering.constants for n in inputs):
        return False
    fake_quant = fake_quant_of(node, context.modules)
    if fake_quant is not None:
        lowering.constants[node] = _quantized(lowering.constants[inputs[0]], fake_quant, node)
        return True
    module = context.module(node)
    if module is not None and (not inputs or module.state_dict()):
        return False
    lowering.constants[node] = Constant(_value(node, lowering))
    return True


def _quantized(constant: Constant, fake_quant: FakeQuantize, node: fx.Node) -> Constant:
    target = target_of(fake_quant, str(node.target))
    if target is None:
        return constant
    with torch.no_grad():
        return Constant(fake_quant.quantize(constant.value) * fake_quant.scale, target)


def _value(node: fx.Node, lowering: Lowering) -> Any:
    """What the node's call gives."""
    context = lowering.context
    if node.op == "get_attr":
        return attrgetter(str(node.target))(context.root).detach()
    args, kwargs = fx.node.map_arg((node.args, node.kwargs), lowering.constant)
    module = context.module(node)
    with torch.no_grad():
        if module is not None:
            return module(*args, **kwargs)
        if node.op == "call_method":
            return getattr(args[0], str(node.target))(*args[1:], **kwargs)
        return node.target(*args, **kwargs)  # type: ignore[operator]
