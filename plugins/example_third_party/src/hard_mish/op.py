"""hard_mish, an activation that torch does not have: x * clamp(x + 2, 0, 2) / 2."""

import numpy as np
from torch import nn

from qatspec.api import Annotation, Example, Observed, lookup


class HardMish(nn.Module):
    """`canonical_op` makes it one op, which the handler of that name answers for."""

    canonical_op = "hard_mish"

    def forward(self, x):
        return x * (x + 2).clamp(0, 2) / 2


def annotate(node, context):
    """A range of its own: the function is not monotonic."""
    return Annotation(output=Observed())


def reference(x):
    """What it computes, in real numbers."""
    return x * np.clip(x + 2, 0, 2) / 2


def lower(node, lowering):
    """A table over every input integer, on the grid behind the bound that is fused to it, if one:
    rounding is monotonic, so bounding after it changes nothing."""
    grid = lowering.grid() or lowering.grid(next(iter(node.users)))
    return lookup(lowering, node.args[0], reference, grid)


def to_onnx(node, writer):
    """The float op, for the Q/DQ file."""
    x, graph = writer.operand(node.args[0]), writer.graph
    zero, two = (graph.const(name, value, np.float32) for name, value in (("zero", 0), ("two", 2)))
    moved = graph.node("Add", [x, two], f"{node.name}.moved")
    gate = graph.node("Clip", [moved, zero, two], f"{node.name}.gate")
    product = graph.node("Mul", [x, gate], f"{node.name}.product")
    return graph.node("Div", [product, two], node.name)


def examples():
    return [Example(op="hard_mish", build=HardMish, reference=reference)]
