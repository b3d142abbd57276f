"""Moves of a whole tensor: what becomes of its batch and of its scales per channel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod

from qatspec.lower.emitting import Emitting
from qatspec.lower.layout import AcrossBatch
from qatspec.program.lowered import Sum, Term


class Moving(Emitting):
    """Reshapes and permutations in dims of the real tensors."""

    def reshape(
        self, x: Term, before: Sequence[int], after: Sequence[int], batch: int | None = None
    ) -> Sum:
        """The tensor `x` of shape `before` in the shape `after`. batch: the dim that holds the
        batch afterwards, where dims of 1 came or went and nothing merged with it."""
        layout, old = self.layout(x), self.builder.values[x.value].shape
        if tuple(before) == tuple(after) and batch in (None, layout.batch):
            return Sum((x,))
        try:
            if batch is None:
                to, shape = layout.reshaped(old, before, after)
            else:
                to = replace(layout, batch=batch)
                shape = (*after[:batch], *layout.shared(old), *after[batch + 1 :])
            axis = None if x.axis is None else layout.axis(x.axis)
        except AcrossBatch as problem:
            self.across(problem)
        if axis is not None:
            inside, channels = prod(old[: axis - 1]), old[axis - 1]
            fits = (
                a
                for a, size in enumerate(shape, 1)
                if prod(shape[: a - 1]) == inside and size == channels and to.dim(a) is not None
            )
            axis = next(fits, None)
            if axis is None:
                self.fail(
                    "it mixes channels that have scales of their own",
                    "return the convolution's output as it is, and reshape in `predict`",
                    "QS703",
                )
        return self.write("reshape", (x.value,), x.scale, to, axis_of=axis, shape=shape)

    def permute(self, x: Term, perm: Sequence[int]) -> Sum:
        """The tensor whose dims are the dims `perm` of `x`. Where each image's numbers stay in
        their order, the batch alone has moved."""
        layout = self.layout(x)
        to, order = layout.permuted(perm)
        axis = None if x.axis is None else order.index(layout.axis(x.axis))
        if to != layout and order == tuple(sorted(order)):
            shape = self.builder.values[x.value].shape
            return self.write("reshape", (x.value,), x.scale, to, axis_of=axis, shape=shape)
        return self.write("transpose", (x.value,), x.scale, to, axis_of=axis, perm=order)
