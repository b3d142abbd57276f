"""Moves of whole tensors, in dims of the model's tensors: what becomes of the batch and of scales
per channel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod

from qatspec.diag.codes import QS703
from qatspec.lowering.batch_dim import AcrossBatch
from qatspec.lowering.lowering import Lowering
from qatspec.lowering.pending import ScaledInts


def reshaped(
    lowering: Lowering,
    x: ScaledInts,
    before: Sequence[int],
    after: Sequence[int],
    batch: int | None = None,
) -> ScaledInts:
    """The tensor `x` of shape `before` in the shape `after`. batch: the dim that holds the batch
    afterwards, where dims of 1 came or went and nothing merged with it."""
    dim, old = lowering.batch_dim(x), lowering.value_shape(x)
    if tuple(before) == tuple(after) and batch in (None, dim.batch):
        return x
    try:
        if batch is None:
            to, shape = dim.reshaped(old, before, after)
        else:
            to = replace(dim, batch=batch)
            shape = (*after[:batch], *dim.shared(old), *after[batch + 1 :])
        axis = None if x.axis is None else dim.axis(x.axis)
    except AcrossBatch as problem:
        lowering.fail_across_batch(problem)
    if axis is not None:
        inside, channels = prod(old[: axis - 1]), old[axis - 1]
        fits = (
            a
            for a, size in enumerate(shape, 1)
            if prod(shape[: a - 1]) == inside and size == channels and to.dim(a) is not None
        )
        axis = next(fits, None)
        if axis is None:
            lowering.fail(
                "it mixes channels that have scales of their own",
                "return the convolution's output as it is, and reshape in `predict`",
                QS703,
            )
    return lowering.emit_value_axes(
        "reshape", (x.value,), x.scale, to, scale_axis=axis, shape=shape
    )


def permuted(lowering: Lowering, x: ScaledInts, perm: Sequence[int]) -> ScaledInts:
    """The tensor whose dims are the dims `perm` of `x`. Where each image's numbers stay in their
    order, the batch alone has moved."""
    dim = lowering.batch_dim(x)
    to, order = dim.permuted(perm)
    axis = None if x.axis is None else order.index(dim.axis(x.axis))
    if to != dim and order == tuple(sorted(order)):
        shape = lowering.value_shape(x)
        return lowering.emit_value_axes(
            "reshape", (x.value,), x.scale, to, scale_axis=axis, shape=shape
        )
    return lowering.emit_value_axes(
        "transpose", (x.value,), x.scale, to, scale_axis=axis, perm=order
    )


def expanded(
    lowering: Lowering, x: ScaledInts, before: tuple[int, ...], after: tuple[int, ...]
) -> ScaledInts:
    """`x` of shape `before` broadcast to `after`: dims of 1 repeat what they hold, and new dims
    stand in front of the others."""
    new = len(after) - len(before)
    batch, wide = lowering.batch_dim(x).batch + new, (1,) * new + before
    if wide[batch] != after[batch]:
        lowering.fail("it repeats the images of the batch", "expand other dims")
    x = reshaped(lowering, x, before, wide, batch)
    for axis, (size, wanted) in enumerate(zip(wide, after, strict=True)):
        if size != wanted:
            scale_axis = None if x.axis == axis else x.axis
            x = lowering.emit(
                "concat", [x.value] * wanted, x.scale, scale_axis=scale_axis, axis=axis
            )
    return x
