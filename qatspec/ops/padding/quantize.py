"""Padding of integers, by a constant or by the tensor's own values."""

from __future__ import annotations

import numpy as np
from torch import fx

from qatspec.graph.context import GraphContext
from qatspec.graph.discarded import OWN_VALUES, discards, padding_of
from qatspec.ir import RANGE
from qatspec.lowering import Lowering, ScaledInts, padded
from qatspec.types import Annotation, Observed, Shared


def annotate(node: fx.Node, context: GraphContext) -> Annotation:
    """Padding by zero, by the tensor's own values or by a constant that is discarded is exact; by
    another constant it is not."""
    padding = padding_of(node, context)
    if padding.mode == "constant" and padding.value != 0 and not discards(node, context):
        return Annotation(output=Observed())
    return Annotation(output=Shared(), kind="passive")


def lower(node: fx.Node, lowering: Lowering) -> ScaledInts:
    """A constant is rounded to the result's grid, where it saturates; own values are copied."""
    padding = padding_of(node, lowering.context)
    if padding.mode != "constant" and padding.mode not in OWN_VALUES:
        lowering.fail(
            f"padding mode {padding.mode!r} has no integer form", "use reflect or replicate"
        )
    if len(padding.amounts) > 2 * (len(lowering.shape()) - 1):
        lowering.fail("it pads the batch", "pad other dims")
    x, grid = lowering.small_integers(node.args[0]), lowering.grid()
    if grid is not None:
        x = lowering.quantize(x, grid, f"{node.name}.in")
    level = int(np.clip(np.rint(padding.value / x.step), *RANGE[lowering.dtype(x)]))
    return padded(lowering, x, padding.amounts, padding.mode, level)
