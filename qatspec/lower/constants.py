"""Constants: what a node computes from parameters alone, whatever stage the fake-quants are in."""

from __future__ import annotations

from torch import fx
from torch.nn.utils.parametrize import ParametrizationList

from qatspec.graph.constants import result
from qatspec.graph.deploy import yields_tensor
from qatspec.lower.closing import fake_quant_of, grid_of
from qatspec.lowering import Constant, Lowering
from qatspec.quant.fake_quant import FakeQuantize


def fold(node: fx.Node, lowering: Lowering) -> bool:
    """Store the value of `node` in `lowering.constants` if it depends on parameters and numbers
    alone.

    Returns whether it does."""
    context = lowering.context
    inputs = [n for n in node.all_input_nodes if yields_tensor(n)]
    if node.op == "placeholder" or any(n not in lowering.constants for n in inputs):
        return False
    fake_quant = fake_quant_of(node, context.modules)
    module = context.module(node)
    if fake_quant is None and module is not None and not isinstance(module, ParametrizationList):
        rounds = any(isinstance(part, FakeQuantize) for part in module.modules())
        if not inputs or (rounds and context.quant_op(node) is None):
            return False
    if fake_quant is not None:
        grid = grid_of(fake_quant, str(node.target))
    else:  # numbers that only move stay on their grid
        grid = lowering.constants[inputs[0]].grid if inputs and context.moves(node) else None
    value = result(context.root, node, lowering.constant)
    lowering.constants[node] = Constant(value, grid)
    return True
