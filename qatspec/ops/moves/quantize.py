"""Moves of integers; scales per channel follow their dim."""

from __future__ import annotations

from torch import fx

from qatspec.graph.context import GraphContext
from qatspec.lowering import (
    Lowering,
    PendingSum,
    ScaledInts,
    concatenated,
    cut,
    expanded,
    permuted,
    reshaped,
)
from qatspec.ops.moves.calls import (
    GetItem,
    Squeeze,
    Unsqueeze,
    permutation,
    positions,
    split_dim,
)
from qatspec.types import Annotation, Shared


def annotate(node: fx.Node, context: GraphContext) -> Annotation:
    """The input's scale, exactly."""
    return Annotation(output=Shared(), kind="passive")


def lower_shape(node: fx.Node, lowering: Lowering) -> ScaledInts:
    """A squeeze or unsqueeze shifts the dim of the batch; a reshape finds it in the new shape."""
    x, context = lowering.single_term(node.args[0]), lowering.context
    before, after, batch = lowering.shape(node.args[0]), lowering.shape(), None
    if context.op(node) == "squeeze":
        batch = lowering.batch_dim(x).batch
        dims = context.call(node, Squeeze).dims(before)
        batch -= sum(_is_before_batch(lowering, axis, batch) for axis in dims)
    elif context.op(node) == "unsqueeze":
        batch = lowering.batch_dim(x).batch
        batch += int(context.call(node, Unsqueeze).dim) % len(after) <= batch
    return reshaped(lowering, x, before, after, batch)


def lower_order(node: fx.Node, lowering: Lowering) -> ScaledInts:
    x = lowering.single_term(node.args[0])
    return permuted(lowering, x, permutation(node, lowering.context))


def lower_expand(node: fx.Node, lowering: Lowering) -> ScaledInts:
    x = lowering.single_term(node.args[0])
    return expanded(lowering, x, lowering.shape(node.args[0]), lowering.shape())


def lower_slice(node: fx.Node, lowering: Lowering) -> PendingSum | ScaledInts:
    """One of several tensors, or a part of one."""
    call = lowering.context.call(node, GetItem)
    if isinstance(lowering.context.value(call.x), (tuple, list)):
        picked: PendingSum = lowering.values(call.x)[call.index]
        return picked
    x, shape = lowering.single_term(call.x), lowering.shape(call.x)
    axis, kept, batch = 0, list(shape), lowering.batch_dim(x).batch
    after, indices = batch, call.indices(len(shape))
    lists = [i for i in indices if not isinstance(i, (int, slice, type(None)))]
    if lists and len(lists) + sum(isinstance(i, int) for i in indices) > 1:
        lowering.fail(
            "it picks positions along several dims at once",
            "write one index after the other, `x[:, 0][:, [1, 2]]`, and join pairs of positions "
            "with torch.stack",
        )
    for i in indices:
        if i is None:
            after += axis <= batch
            continue
        size = shape[axis]
        listed = positions(i, size, lowering.context)
        if listed is not None:
            x = _picked(lowering, x, axis, listed.reshape(-1).tolist(), size)
            kept[axis] = listed.size
            after += (listed.ndim - 1) * (axis < batch)
            axis += 1
            continue
        if not isinstance(i, (int, slice)):
            lowering.fail(
                "it gathers by a tensor of indices",
                "write the positions as a list of numbers, `x[:, [0, 2, 1]]`, or as slices",
            )
        part = i if isinstance(i, slice) else slice(i % size, i % size + 1)
        x = cut(lowering, x, axis, part, size)
        kept[axis] = len(range(*part.indices(size)))
        if isinstance(i, int):
            after -= _is_before_batch(lowering, axis, batch)
        axis += 1
    return reshaped(lowering, x, tuple(kept), lowering.shape(), after)


def lower_split(node: fx.Node, lowering: Lowering) -> list[ScaledInts]:
    x, shape = lowering.single_term(node.args[0]), lowering.shape(node.args[0])
    batch, axis = lowering.batch_dim(x).batch, split_dim(node, lowering.context)
    unbind = lowering.context.op(node) == "unbind"
    to = batch - _is_before_batch(lowering, axis, batch) if unbind else batch
    parts, start = [], 0
    for example in lowering.context.value(node):
        after = tuple(example.shape)
        size = 1 if unbind else after[axis]
        part = cut(lowering, x, axis, slice(start, start + size), shape[axis])
        kept = (*shape[:axis], size, *shape[axis + 1 :])
        parts.append(reshaped(lowering, part, kept, after, to))
        start += size
    return parts


def _picked(
    lowering: Lowering, x: ScaledInts, axis: int, positions: list[int], size: int
) -> ScaledInts:
    """Take the numbers at `positions` along `axis`, in their order, as slices that are joined."""
    starts = [i for i, p in enumerate(positions) if i == 0 or p != positions[i - 1] + 1]
    runs = [positions[a:b] for a, b in zip(starts, [*starts[1:], len(positions)], strict=True)]
    parts = [cut(lowering, x, axis, slice(run[0], run[-1] + 1), size) for run in runs]
    return concatenated(lowering, parts, axis)


def _is_before_batch(lowering: Lowering, axis: int, batch: int) -> bool:
    """Return whether a removed dim precedes the batch, so that the batch moves forward."""
    if axis == batch:
        lowering.fail("it drops the dim that holds the batch", "keep the batch as a dim")
    return axis < batch
