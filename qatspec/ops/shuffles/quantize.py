"""Pixel and channel shuffles of integers."""

from __future__ import annotations

from torch import fx

from qatspec.diag.codes import QS702
from qatspec.graph.context import GraphContext
from qatspec.lowering import Lowering, ScaledInts
from qatspec.ops.shuffles.calls import shuffle_of
from qatspec.types import Annotation, Shared


def annotate(node: fx.Node, context: GraphContext) -> Annotation:
    """The input's scale, exactly."""
    return Annotation(output=Shared(), kind="passive")


def lower(node: fx.Node, lowering: Lowering) -> ScaledInts:
    """Dims are split, swapped and merged."""
    x, before = lowering.single_term(node.args[0]), lowering.shape(node.args[0])
    if x.axis is not None:
        lowering.fail("its channels have scales of their own", "quantize the op before it", QS702)
    if len(before) != 4:
        lowering.fail("only (N, C, H, W) tensors are shuffled")
    shuffle = shuffle_of(node, lowering.context)
    x = lowering.emit_same_scale("reshape", x, shape=shuffle.split(*before[1:]))
    x = lowering.emit_same_scale("transpose", x, perm=shuffle.perm)
    return lowering.emit_same_scale("reshape", x, shape=lowering.shape()[1:])
