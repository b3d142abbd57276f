"""Padding of integers, by a constant or by the tensor's own values."""

from __future__ import annotations

import numpy as np
from torch import fx

from qatspec.graph.context import GraphContext
from qatspec.graph.discarded import OWN_VALUES, discards, padding_of
from qatspec.ir import RANGE
from qatspec.lowering import BATCH_FIRST, BatchDim, Lowering, ScaledInts, padded
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
    dim = lowering.batch_dim(x)
    if dim.is_first:
        return padded(lowering, x, padding.amounts, padding.mode, level)
    if len(padding.amounts) > 2 * (len(lowering.shape()) - 1 - dim.batch):
        lowering.fail("it pads the dim that holds the batch, or one before", "pad other dims")
    x = _as(BATCH_FIRST, lowering, x)  # the padded dims are the last ones, whatever is before
    return _as(dim, lowering, padded(lowering, x, padding.amounts, padding.mode, level))


def _as(dim: BatchDim, lowering: Lowering, x: ScaledInts) -> ScaledInts:
    """The same value, whose dims before the padded ones are read in another way."""
    shape = lowering.value_shape(x)
    return lowering.emit_value_axes("reshape", (x.value,), x.scale, dim, shape=shape)
