"""Ops that move numbers and compute none: reshape, permute, slicing, dropout in eval, ..."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import fx

from qatspec.graph.context import GraphContext
from qatspec.program.lowered import Sum, Term
from qatspec.program.model import RANGE
from qatspec.types import Annotation, Observed, Shared

if TYPE_CHECKING:
    from qatspec.lower.context import Lowering


def annotate(node: fx.Node, context: GraphContext) -> Annotation:
    """The input's scale, exactly."""
    return Annotation(output=Shared(), kind="passive")


def annotate_pad(node: fx.Node, context: GraphContext) -> Annotation:
    """Padding by zero or by the tensor's own values is exact; by another constant it is not."""
    mode = context.setting(node, 2, "mode", "constant")
    value = context.setting(node, 3, "value", 0.0)
    if mode == "constant" and value not in (0, None):
        return Annotation(output=Observed())
    return Annotation(output=Shared(), kind="passive")


def lower(node: fx.Node, lowering: Lowering) -> Sum | list[Sum]:
    """Moves of integers; scales per channel follow their dim."""
    op = lowering.context.op(node)
    if op == "getitem" and isinstance(lowering.context.value(node.args[0]), (tuple, list)):
        index: Any = node.args[1]
        picked: Sum | list[Sum] = lowering.values(node.args[0])[index]
        return picked
    if op in ("identity", "dropout", "contiguous"):
        return lowering.value(node.args[0])
    x = lowering.passive(node.args[0])
    if op in ("permute", "transpose"):
        return _transpose(node, lowering, x)
    if op == "getitem":
        return _slice(node, lowering, x)
    if op in ("chunk", "split", "unbind"):
        return _split(node, lowering, x)
    if op == "pixel_shuffle":
        return _pixel_shuffle(node, lowering, x)
    if op == "expand" and lowering.shape() != lowering.shape(node.args[0]):
        lowering.fail("it repeats numbers along a dim", "let the op behind it broadcast")
    return _reshape(lowering, x, lowering.shape(node.args[0]), lowering.shape())


def lower_pad(node: fx.Node, lowering: Lowering) -> Sum:
    """Padding of the last two dims by a constant, which is rounded to the result's grid."""
    context = lowering.context
    module = context.module(node)
    amounts: Any = context.argument(node, 1, "pad") if module is None else module.padding
    amounts = [int(lowering.constant(a)) for a in amounts]
    mode = "constant" if module is not None else context.argument(node, 2, "mode", "constant")
    value = float(context.setting(node, 3, "value", 0.0) or 0.0)
    if mode != "constant" or min(amounts) < 0 or any(amounts[4:]):
        lowering.fail("only padding of height and width by a constant has an integer form")
    if len(lowering.shape()) != 4:
        lowering.fail("only (N, C, H, W) tensors are padded")
    left, right, top, bottom = (*amounts, 0, 0)[:4]
    x, target = lowering.integer(node.args[0]), lowering.target()
    if target is not None:
        x = lowering.quantize(Sum((x,)), target, f"{node.name}.in").terms[0]
    level = int(np.clip(np.rint(value / x.step), *RANGE[lowering.dtype(x)]))
    return lowering.keep("pad", x, padding=(top, left, bottom, right), value=level)


def _reshape(lowering: Lowering, x: Term, before: tuple[int, ...], after: tuple[int, ...]) -> Sum:
    if before[0] != after[0]:
        lowering.fail("it moves numbers across the batch", "keep the batch as the first dim")
    if before == after:
        return Sum((x,))
    axis = None
    if x.axis is not None:
        inside = math.prod(before[1 : x.axis])
        fits = (
            a for a in range(1, len(after))
            if math.prod(after[1:a]) == inside and after[a] == before[x.axis]
        )  # fmt: skip
        axis = next(fits, None)
        if axis is None:
            lowering.fail(
                "it mixes channels that have scales of their own",
                "return the convolution's output as it is, and reshape in `predict`",
                "QS703",
            )
    return lowering.emit("reshape", (x.value,), x.scale, scale_axis=axis, shape=after[1:])


def _transpose(node: fx.Node, lowering: Lowering, x: Term) -> Sum:
    rank, arguments = len(lowering.shape()), node.args[1:]
    perm = list(range(rank))
    if lowering.context.op(node) == "transpose":
        a, b = (int(d) % rank for d in arguments)  # type: ignore[arg-type]
        perm[a], perm[b] = b, a
    else:
        dims = lowering.context.argument(node, 1, "dims")
        order = dims if isinstance(dims, (tuple, list)) else arguments
        perm = [int(d) % rank for d in order]  # type: ignore[arg-type]
    if perm[0] != 0:
        lowering.fail("it moves the batch", "keep the batch as the first dim")
    axis = None if x.axis is None else perm.index(x.axis)
    return lowering.emit("transpose", (x.value,), x.scale, scale_axis=axis, perm=tuple(perm))


def _cut(lowering: Lowering, x: Term, axis: int, part: slice, size: int) -> Term:
    """x[..., part, ...] along `axis`."""
    start, stop, step = part.indices(size)
    if axis == 0 or step < 1:
        if (start, stop, step) == (0, size, 1):
            return x
        lowering.fail("it slices the batch, or backwards", "slice other dims, forwards")
    if (start, stop, step) == (0, size, 1):
        return x
    scale = x.scale[part] if x.axis == axis else x.scale
    cut = lowering.emit(
        "slice", (x.value,), scale, scale_axis=x.axis, axis=axis, start=start, stop=stop, step=step
    )
    return cut.terms[0]


def _slice(node: fx.Node, lowering: Lowering, x: Term) -> Sum:
    given = node.args[1]
    index = list(given) if isinstance(given, (tuple, list)) else [given]
    shape = lowering.shape(node.args[0])
    if Ellipsis in index:
        at = index.index(Ellipsis)
        whole = len(shape) - sum(i is not None for i in index) + 1
        index[at : at + 1] = [slice(None)] * whole
    axis, kept = 0, list(shape)
    for i in index:
        if i is None:
            continue
        if not isinstance(i, (int, slice)):
            lowering.fail("it gathers by a tensor of indices", "slice by numbers")
        size = shape[axis]
        part = i if isinstance(i, slice) else slice(i % size, i % size + 1)
        x = _cut(lowering, x, axis, part, size)
        kept[axis] = len(range(*part.indices(size)))
        axis += 1
    return _reshape(lowering, x, tuple(kept), lowering.shape())


def _split(node: fx.Node, lowering: Lowering, x: Term) -> list[Sum]:
    shape = lowering.shape(node.args[0])
    unbind = lowering.context.op(node) == "unbind"
    axis = lowering.context.argument(node, 1 if unbind else 2, "dim", 0) % len(shape)
    parts, start = [], 0
    for example in lowering.context.value(node):
        after = tuple(example.shape)
        size = 1 if unbind else after[axis]
        part = _cut(lowering, x, axis, slice(start, start + size), shape[axis])
        kept = (*shape[:axis], size, *shape[axis + 1 :])
        parts.append(_reshape(lowering, part, kept, after))
        start += size
    return parts


def _pixel_shuffle(node: fx.Node, lowering: Lowering, x: Term) -> Sum:
    if x.axis is not None:
        lowering.fail("its channels have scales of their own", "quantize the op before it", "QS702")
    factor = lowering.context.setting(node, 1, "upscale_factor")
    c, h, w = lowering.shape(node.args[0])[1:]
    split = (c // factor**2, factor, factor, h, w)
    x = lowering.emit("reshape", (x.value,), x.scale, shape=split).terms[0]
    x = lowering.emit("transpose", (x.value,), x.scale, perm=(0, 1, 4, 2, 5, 3)).terms[0]
    return lowering.emit("reshape", (x.value,), x.scale, shape=lowering.shape()[1:])
