"""Ops on pictures whose batch shares its dim with something else: frames, windows, heads.

A model may merge these with the batch, `x.flatten(0, 1)`, and give the result to a convolution. In
the Program they are further channels of the picture of one image: pools and resizes go by channels
anyway, and a convolution has further groups of the same weights.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

from torch import fx

from qatspec.lowering import BATCH_FIRST, BatchDim, Lowering, PendingSum, pending


def on_pictures(
    lower: Callable[[fx.Node, Lowering], Any], node: fx.Node, lowering: Lowering
) -> Any:
    """Lower an op on pictures by its handler's function `lower`, which reads the batch as a dim of
    its own in front. Raises Unlowerable where the operands have no such form."""
    read = [n for n in node.all_input_nodes if isinstance(lowering.lowered.get(n), PendingSum)]
    shared = [n for n in read if not lowering.batch_dim(lowering.lowered[n]).is_first]
    if not shared:
        return lower(node, lowering)
    operand = shared[0]
    before = lowering.lowered[operand]
    dim = lowering.batch_dim(before)
    if len(read) > 1 or dim.batch:
        lowering.fail(
            f"it takes pictures, and the batch of `{operand.name}` is not in front",
            "permute or reshape it to (batch, channels, ...) before",
        )
    x = lowering.small_integers(operand)
    shape = lowering.value_shape(x)
    inside = shape[: dim.extra]
    x = lowering.emit_value_axes(
        "reshape", (x.value,), x.scale, BATCH_FIRST, name=f"{node.name}.pictures",
        shape=(prod(inside) * shape[dim.extra], *shape[dim.extra + 1 :]),
    )  # fmt: skip
    lowering.lowered[operand] = pending(x)
    try:
        lowered = lower(node, lowering)
    finally:
        lowering.lowered[operand] = before
    return _apart(lowering, pending(lowered), dim, inside)


def _apart(lowering: Lowering, x: PendingSum, dim: BatchDim, inside: tuple[int, ...]) -> PendingSum:
    """The result with dims of sizes `inside` before its channels, which share the batch's dim."""
    terms = []
    for term in x.terms:
        channels, *rest = lowering.value_shape(term)
        channels //= prod(inside)
        axis = None if term.axis is None else dim.axis(term.axis)
        scale = term.scale[:channels] if term.axis == 1 else term.scale
        shape = (*inside, channels, *rest)
        terms.append(
            lowering.emit_value_axes(
                "reshape", (term.value,), scale, dim, scale_axis=axis, shape=shape
            )
        )
    return PendingSum(tuple(terms), x.low, x.high)
