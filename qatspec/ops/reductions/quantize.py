"""Sums, means, maxima and their indices along whole dims, in integers."""

from __future__ import annotations

from math import prod

import numpy as np
from torch import fx

from qatspec.graph.context import GraphContext
from qatspec.graph.discarded import may_pass
from qatspec.ir import RANGE
from qatspec.lowering import Grid, Lowering, ScaledInts, lookup, pending
from qatspec.ops.reductions.calls import Reduce, VectorNorm
from qatspec.types import Annotation, Float, Observed, Shared


def annotate_total(node: fx.Node, context: GraphContext) -> Annotation:
    """A mean needs a finer grid than its input: a range of its own."""
    return Annotation(output=Observed())


def annotate_max(node: fx.Node, context: GraphContext) -> Annotation:
    """A maximum is one of its inputs: exactly the input's scale. Behind padding whose constant
    may be the largest, a range of its own."""
    return Annotation(output=Observed() if may_pass(node, context) else Shared())


def lower_total(node: fx.Node, lowering: Lowering) -> ScaledInts:
    """A sum of integers; a mean's division goes into the multiplier."""
    x = lowering.small_integers(node.args[0])
    axes, keepdim = _reduced(node, lowering)
    shape = lowering.shape(node.args[0])
    count = prod(shape[a] for a in axes) if lowering.context.op(node) == "mean" else 1
    return lowering.emit("reduce_sum", (x.value,), x.scale / count, axes=axes, keepdim=keepdim)


def lower_max(node: fx.Node, lowering: Lowering) -> ScaledInts | list[ScaledInts]:
    """The largest integer is the largest number; over one dim torch.max gives its index too."""
    x = lowering.small_integers(node.args[0])
    with_indices = isinstance(lowering.context.value(node), (tuple, list))
    is_amax = "amax" in str(getattr(node.target, "__name__", node.target))
    if not with_indices and not is_amax:
        lowering.fail(
            "max has no integer form here",
            "use a max pool, amax over dims, or torch.maximum of two tensors",
        )
    axes, keepdim = _reduced(node, lowering)
    largest = lowering.emit_same_scale("reduce_max", x, axes=axes, keepdim=keepdim)
    return [largest, _index(lowering, x, axes[0], keepdim)] if with_indices else largest


def lower_argmax(node: fx.Node, lowering: Lowering) -> ScaledInts:
    """The first index of the largest integer."""
    axes, keepdim = _reduced(node, lowering)
    if len(axes) != 1:
        lowering.fail("it counts through all dims", "name the dim: argmax(dim=1)")
    return _index(lowering, lowering.small_integers(node.args[0]), axes[0], keepdim)


def _index(lowering: Lowering, x: ScaledInts, axis: int, keepdim: bool) -> ScaledInts:
    name = f"{lowering.node.name}.place"
    return lowering.emit("argmax", (x.value,), 1.0, name=name, axis=axis, keepdim=keepdim)


def annotate_length(node: fx.Node, context: GraphContext) -> Annotation:
    """A length has a range of its own."""
    if context.call(node, VectorNorm).ord != 2:
        return Annotation(output=Float("only Euclidean lengths have an integer form"), inputs=())
    return Annotation(output=Observed())


def lower_length(node: fx.Node, lowering: Lowering) -> ScaledInts:
    """The exact sum of squares, and a table of the root over 16 bits of it: the largest index is
    the square of the largest length that the result's grid holds."""
    call = lowering.context.call(node, VectorNorm)
    grid = lowering.required_grid("a root")
    x = lowering.small_integers(call.x)
    axes = _axes(call.reduce, lowering)
    name = f"{node.name}.square"
    square = lowering.emit("mul", (x.value, x.value), x.scale**2, name=name)
    total = lowering.emit_same_scale(
        "reduce_sum", square, name=f"{node.name}.sum", axes=axes, keepdim=bool(call.keepdim)
    )
    most = (grid.scale * (RANGE[grid.dtype][1] + 0.5)) ** 2
    index = Grid(most / RANGE["int16"][1], "int16")
    rounded = lowering.quantize(total, index, f"{node.name}.index")
    return lookup(lowering, pending(rounded), np.sqrt)


def _axes(call: Reduce, lowering: Lowering) -> tuple[int, ...]:
    """The dims that are reduced, in ascending order. Fails where one is the batch."""
    axes = tuple(sorted(call.axes(len(lowering.shape(call.x)))))
    if lowering.batch_dim(lowering.value(call.x)).batch in axes:
        lowering.fail("it reduces over the batch", "name the dims to reduce")
    return axes


def _reduced(node: fx.Node, lowering: Lowering) -> tuple[tuple[int, ...], bool]:
    """(the dims, are they kept); fails where one is the batch."""
    call = lowering.context.call(node, Reduce)
    return _axes(call, lowering), bool(call.keepdim)
