"""Ops that move numbers and compute none: reshape, permute, slicing, dropout in eval, ..."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from torch import fx

from qatspec.graph.context import GraphContext
from qatspec.program.lowered import Sum, Term
from qatspec.types import Annotation, Shared

if TYPE_CHECKING:
    from qatspec.lower.context import Lowering


def annotate(node: fx.Node, context: GraphContext) -> Annotation:
    """The input's scale, exactly."""
    return Annotation(output=Shared(), kind="passive")


def lower(node: fx.Node, lowering: Lowering) -> Sum | list[Sum]:
    """Moves of integers; scales per channel follow their dim."""
    op = lowering.context.op(node)
    if op == "getitem" and isinstance(lowering.context.value(node.args[0]), (tuple, list)):
        index: Any = lowering.context.argument(node, 1, "index")
        picked: Sum | list[Sum] = lowering.values(node.args[0])[index]
        return picked
    if op in ("identity", "dropout", "contiguous"):
        return lowering.value(node.args[0])
    x = lowering.passive(node.args[0])
    if op in ("permute", "transpose"):
        return lowering.permute(x, lowering.context.permutation(node))
    if op == "getitem":
        return _slice(node, lowering, x)
    if op in ("chunk", "split", "unbind"):
        return _split(node, lowering, x)
    if op in ("pixel_shuffle", "pixel_unshuffle", "channel_shuffle"):
        return _shuffle(node, lowering, x)
    if op == "expand":
        return expand(lowering, x, lowering.shape(node.args[0]), lowering.shape())
    if op == "squeeze":
        return _squeeze(node, lowering, x)
    before, after, batch = lowering.shape(node.args[0]), lowering.shape(), None
    if op == "unsqueeze":
        batch = lowering.layout(x).batch
        batch += int(lowering.context.argument(node, 1, "dim")) % len(after) <= batch
    return lowering.reshape(x, before, after, batch)


def _cut(lowering: Lowering, x: Term, axis: int, part: slice, size: int) -> Term:
    """x[..., part, ...] along `axis`."""
    start, stop, step = part.indices(size)
    if axis == lowering.layout(x).batch or step < 1:
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
    given = lowering.context.argument(node, 1, "index")
    index = list(given) if isinstance(given, (tuple, list)) else [given]
    shape = lowering.shape(node.args[0])
    if Ellipsis in index:
        at = index.index(Ellipsis)
        whole = len(shape) - sum(i is not None for i in index) + 1
        index[at : at + 1] = [slice(None)] * whole
    axis, kept, batch = 0, list(shape), lowering.layout(x).batch
    after = batch
    for i in index:
        if i is None:
            after += axis <= batch
            continue
        if not isinstance(i, (int, slice)):
            lowering.fail("it gathers by a tensor of indices", "slice by numbers")
        size = shape[axis]
        part = i if isinstance(i, slice) else slice(i % size, i % size + 1)
        x = _cut(lowering, x, axis, part, size)
        kept[axis] = len(range(*part.indices(size)))
        if isinstance(i, int):
            after -= _dropped(lowering, axis, batch)
        axis += 1
    return lowering.reshape(x, tuple(kept), lowering.shape(), after)


def _dropped(lowering: Lowering, axis: int, batch: int) -> bool:
    """Does a dim stand before the batch, so that the batch moves up where it goes?"""
    if axis == batch:
        lowering.fail("it drops the dim that holds the batch", "keep the batch as a dim")
    return axis < batch


def _squeeze(node: fx.Node, lowering: Lowering, x: Term) -> Sum:
    before = lowering.shape(node.args[0])
    dims = lowering.context.argument(node, 1, "dim")
    named = (
        dims if isinstance(dims, (tuple, list)) else range(len(before)) if dims is None else (dims,)
    )
    gone = [d % len(before) for d in named if before[d] == 1]
    batch = lowering.layout(x).batch
    after = batch - sum(_dropped(lowering, axis, batch) for axis in gone)
    return lowering.reshape(x, before, lowering.shape(), after)


def _split(node: fx.Node, lowering: Lowering, x: Term) -> list[Sum]:
    shape, batch = lowering.shape(node.args[0]), lowering.layout(x).batch
    unbind = lowering.context.op(node) == "unbind"
    axis = lowering.context.argument(node, 1 if unbind else 2, "dim", 0) % len(shape)
    to = batch - _dropped(lowering, axis, batch) if unbind else batch
    parts, start = [], 0
    for example in lowering.context.value(node):
        after = tuple(example.shape)
        size = 1 if unbind else after[axis]
        part = _cut(lowering, x, axis, slice(start, start + size), shape[axis])
        kept = (*shape[:axis], size, *shape[axis + 1 :])
        parts.append(lowering.reshape(part, kept, after, to))
        start += size
    return parts


def expand(lowering: Lowering, x: Term, before: tuple[int, ...], after: tuple[int, ...]) -> Sum:
    """Dims of 1 repeat what they hold; new dims stand in front of the others."""
    new = len(after) - len(before)
    batch, wide = lowering.layout(x).batch + new, (1,) * new + before
    if wide[batch] != after[batch]:
        lowering.fail("it repeats the images of the batch", "expand other dims")
    x = lowering.reshape(x, before, wide, batch).terms[0]
    for axis, (size, wanted) in enumerate(zip(wide, after, strict=True)):
        if size != wanted:
            scale_axis = None if x.axis == axis else x.axis
            x = lowering.emit(
                "concat", [x.value] * wanted, x.scale, scale_axis=scale_axis, axis=axis
            ).terms[0]
    return Sum((x,))


#: op -> (name of its factor, dims split of (C, H, W) by that factor, permutation with the batch).
SHUFFLES: dict[str, tuple[str, Callable[..., tuple[int, ...]], tuple[int, ...]]] = {
    "pixel_shuffle": (
        "upscale_factor", lambda f, c, h, w: (c // f**2, f, f, h, w), (0, 1, 4, 2, 5, 3)
    ),
    "pixel_unshuffle": (
        "downscale_factor", lambda f, c, h, w: (c, h // f, f, w // f, f), (0, 1, 3, 5, 2, 4)
    ),
    "channel_shuffle": ("groups", lambda f, c, h, w: (f, c // f, h, w), (0, 2, 1, 3, 4)),
}  # fmt: skip


def _shuffle(node: fx.Node, lowering: Lowering, x: Term) -> Sum:
    """Channels and pixels change places: dims are split, swapped and merged."""
    name, split, perm = SHUFFLES[str(lowering.context.op(node))]
    before = lowering.shape(node.args[0])
    if x.axis is not None:
        lowering.fail("its channels have scales of their own", "quantize the op before it", "QS702")
    if len(before) != 4:
        lowering.fail("only (N, C, H, W) tensors are shuffled")
    factor = lowering.context.setting(node, 1, name)
    x = lowering.emit("reshape", (x.value,), x.scale, shape=split(factor, *before[1:])).terms[0]
    x = lowering.emit("transpose", (x.value,), x.scale, perm=perm).terms[0]
    return lowering.emit("reshape", (x.value,), x.scale, shape=lowering.shape()[1:])
