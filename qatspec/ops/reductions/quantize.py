"""Sums, means, maxima and their indices along whole dims, in integers."""

from __future__ import annotations

from math import prod

from torch import fx

from qatspec.graph.context import GraphContext
from qatspec.graph.discarded import may_pass
from qatspec.lowering import Lowering, ScaledInts
from qatspec.ops.reductions.calls import Reduce
from qatspec.types import Annotation, Observed, Shared


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


def _reduced(node: fx.Node, lowering: Lowering) -> tuple[tuple[int, ...], bool]:
    """(the dims, are they kept); fails where one is the batch."""
    call = lowering.context.call(node, Reduce)
    axes = tuple(sorted(call.axes(len(lowering.shape(call.x)))))
    if lowering.batch_dim(lowering.value(call.x)).batch in axes:
        lowering.fail("it reduces over the batch", "name the dims to reduce")
    return axes, bool(call.keepdim)
