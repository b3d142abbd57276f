"""Products of two activations' rows and columns in integers."""

from __future__ import annotations

import numpy as np
from torch import fx

from qatspec.graph.context import GraphContext
from qatspec.ir import RANGE
from qatspec.lowering import Lowering, ScaledInts
from qatspec.ops.matmul.calls import Matmul
from qatspec.types import Annotation, Observed


def annotate(node: fx.Node, context: GraphContext) -> Annotation:
    """Both factors need a grid, and the product has a range of its own."""
    return Annotation(output=Observed(), inputs=(0, 1))


def lower(node: fx.Node, lowering: Lowering) -> ScaledInts:
    """A constant matrix makes it a linear layer."""
    call = lowering.context.call(node, Matmul)
    a, b = call.x, call.second
    known = lowering.constants.get(b)
    if known is not None and known.value.ndim == 2 and known.grid is not None:
        x, scale = lowering.small_integers(a), np.float32(known.grid.scale)
        levels = np.clip(np.rint(known.value.numpy() / scale), *RANGE[known.grid.dtype])
        weight = lowering.const("weight", known.grid.dtype, levels.T)
        return lowering.emit("linear", (x.value, weight), x.scale * float(scale))
    ranks = {len(lowering.shape(operand)) for operand in (a, b)}
    if len(ranks) != 1 or ranks == {1}:
        lowering.fail("it multiplies tensors of different rank", "give both the same dims")
    x, y = lowering.small_integers(a), lowering.small_integers(b)
    return lowering.emit("matmul", (x.value, y.value), x.scale * y.scale)
