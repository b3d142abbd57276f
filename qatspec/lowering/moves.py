"""Moves of whole tensors, in dims of the model's tensors: what becomes of the batch and of scales
per channel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod

import numpy as np

from qatspec.diag.codes import QS703
from qatspec.lowering.lowering import Lowering
from qatspec.lowering.pending import ScaledInts


def reshaped(
    lowering: Lowering,
    x: ScaledInts,
    before: Sequence[int],
    after: Sequence[int],
    batch: int | None = None,
) -> ScaledInts:
    """Reshape a tensor, as torch's `reshape` does.

    lowering  the state of lowering.
    x         the tensor, of shape `before`.
    before    its shape in the model, batch included.
    after     the shape to give it.
    batch     the dim that holds the batch afterwards, where only dims of 1 are added or removed;
              None: found from the shapes.

    Returns integers on the scale of `x`. Raises Unlowerable: QS703 where channels with scales of
    their own would be mixed, QS701 where images would be.
    """
    dim, old = lowering.batch_dim(x), lowering.value_shape(x)
    if tuple(before) == tuple(after) and batch in (None, dim.batch):
        return x
    if batch is None:
        to, shape = dim.reshaped(old, before, after)
    else:
        to = replace(dim, batch=batch)
        shape = (*after[:batch], *dim.shared(old), *after[batch + 1 :])
    axis = None if x.axis is None else dim.axis(x.axis)
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
    """Permute the dims of a tensor, as torch's `permute` does.

    lowering  the state of lowering.
    x         the tensor.
    perm      for each dim of the result, the dim of `x` that it is, batch included.

    Returns integers on the scale of `x`. Where only the batch moves, nothing is computed.
    """
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
    """Broadcast a tensor, as torch's `expand` does.

    lowering  the state of lowering.
    x         the tensor, of shape `before`.
    before    its shape in the model, batch included.
    after     the shape to give it: dims of 1 are repeated, and new dims come first.

    Returns integers on the scale of `x`. Raises Unlowerable (QS701) where the batch would be
    repeated.
    """
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


def cut(
    lowering: Lowering,
    x: ScaledInts,
    axis: int,
    part: slice,
    size: int,
    name: str | None = None,
) -> ScaledInts:
    """Take a slice of a tensor along one dim.

    lowering  the state of lowering.
    x         the tensor.
    axis      the dim, counted with the batch as 0; `size` is its size.
    part      forwards; the whole dim gives `x` itself.
    name      of the value; None: that of this node.

    Returns integers on the scale of `x`. Raises Unlowerable (QS701) where it slices the batch.
    """
    start, stop, step = part.indices(size)
    if (start, stop, step) == (0, size, 1):
        return x
    if axis == lowering.batch_dim(x).batch or step < 1:
        lowering.fail("it slices the batch, or backwards", "slice other dims, forwards")
    scale = x.scale[part] if x.axis == axis else x.scale
    attrs = {"axis": axis, "start": start, "stop": stop, "step": step}
    return lowering.emit("slice", (x.value,), scale, scale_axis=x.axis, name=name, **attrs)


def concatenated(
    lowering: Lowering, parts: Sequence[ScaledInts], axis: int, name: str | None = None
) -> ScaledInts:
    """Join tensors of one scale, or with scales for the same channels, along `axis`. A single part
    is returned as it is."""
    first, *others = parts
    if not others:
        return first
    along = first.axis == axis
    scale = np.concatenate([part.scale for part in parts]) if along else first.scale
    names = [part.value for part in parts]
    return lowering.emit("concat", names, scale, scale_axis=first.axis, name=name, axis=axis)
