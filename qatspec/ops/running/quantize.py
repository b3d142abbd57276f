"""Running sums as linear layers whose weight is a triangle of ones."""

from __future__ import annotations

import numpy as np
from torch import fx

from qatspec.graph.context import GraphContext
from qatspec.lowering import Lowering, ScaledInts, permuted
from qatspec.ops.running.calls import RunningSum
from qatspec.types import Annotation, Observed


def annotate(node: fx.Node, context: GraphContext) -> Annotation:
    """A sum has a range of its own."""
    return Annotation(output=Observed())


def lower(node: fx.Node, lowering: Lowering) -> ScaledInts:
    """The exact sums, along the last dim: any other is moved there and back."""
    call = lowering.context.call(node, RunningSum)
    x, shape = lowering.small_integers(call.x), lowering.shape()
    dim, last = call.axis(len(shape)), len(shape) - 1
    if dim == lowering.batch_dim(x).batch:
        lowering.fail("it sums over the batch", "name another dim")
    ones = lowering.const("ones", "int8", np.tri(shape[dim]))
    if dim == last:
        return lowering.emit("linear", (x.value, ones), x.scale)
    order = [d for d in range(last + 1) if d != dim] + [dim]
    x = permuted(lowering, x, order)
    sums = lowering.emit("linear", (x.value, ones), x.scale, name=f"{node.name}.sum")
    return permuted(lowering, sums, [order.index(d) for d in range(last + 1)])
