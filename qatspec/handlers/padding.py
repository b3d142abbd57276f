"""Padding, by a constant or by the tensor's own values."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING

import numpy as np
from torch import fx

from qatspec.graph.context import GraphContext
from qatspec.handlers.discarded import OWN, discards, setting
from qatspec.ir import RANGE
from qatspec.program.lowered import Sum, Term
from qatspec.types import Annotation, Observed, Shared

if TYPE_CHECKING:
    from qatspec.lower.context import Lowering


def annotate(node: fx.Node, context: GraphContext) -> Annotation:
    """Padding by zero, by the tensor's own values or by a constant that is discarded is exact; by
    another constant it is not."""
    _, mode, value = setting(node, context)
    if mode == "constant" and value != 0 and not discards(node, context):
        return Annotation(output=Observed())
    return Annotation(output=Shared(), kind="passive")


def lower(node: fx.Node, lowering: Lowering) -> Sum:
    """A constant is rounded to the result's grid, where it saturates; own values are copied."""
    amounts, mode, value = setting(node, lowering.context)
    if mode != "constant" and mode not in OWN:
        lowering.fail(f"padding mode {mode!r} has no integer form", "use reflect or replicate")
    if len(amounts) > 2 * (len(lowering.shape()) - 1):
        lowering.fail("it pads the batch", "pad other dims")
    x, target = lowering.integer(node.args[0]), lowering.target()
    if target is not None:
        x = lowering.quantize(Sum((x,)), target, f"{node.name}.in").terms[0]
    level = int(np.clip(np.rint(value / x.step), *RANGE[lowering.dtype(x)]))
    return Sum((padded(lowering, x, amounts, mode, level),))


def padded(lowering: Lowering, x: Term, amounts: Sequence[int], mode: str, level: int = 0) -> Term:
    """x with `amounts` before and after each dim, the last dim first as torch lists them; negative
    ones crop. level: the integer that mode "constant" fills in."""
    rank = len(lowering.builder.values[x.value].shape)
    sides = [(rank - i // 2, amounts[i], amounts[i + 1]) for i in range(0, len(amounts), 2)]
    if mode == "constant":
        x = _around(lowering, x, [(axis, max(b, 0), max(a, 0)) for axis, b, a in sides], level)
    for axis, before, after in sides:
        size = lowering.builder.values[x.value].shape[axis - 1]
        kept = list(range(max(-before, 0), size - max(-after, 0)))
        if mode != "constant":
            kept = _indices(size, before, after, mode)
        x = taken(lowering, x, axis, kept)
    return x


def _around(lowering: Lowering, x: Term, sides: Sequence[tuple[int, int, int]], level: int) -> Term:
    """x with `level` before and after it along each (axis, before, after)."""
    sides = [side for side in sides if max(side[1:]) > 0]
    rank = len(lowering.builder.values[x.value].shape)
    if rank == 3 and all(axis > 1 for axis, _, _ in sides):  # height and width at once
        amount = {axis: (b, a) for axis, b, a in sides}
        (left, right), (top, bottom) = amount.get(3, (0, 0)), amount.get(2, (0, 0))
        return _filled(lowering, x, (top, left, bottom, right), level) if sides else x
    for axis, before, after in sides:
        shape = lowering.builder.values[x.value].shape
        whole = (*shape[: axis - 1], shape[axis - 1] + before + after, *shape[axis:])
        flat = (prod(shape[: axis - 1]), shape[axis - 1], prod(shape[axis:]))
        x = lowering.keep("reshape", x, name=_name(lowering), shape=flat).terms[0]
        x = _filled(lowering, x, (before, 0, after, 0), level)
        x = lowering.keep("reshape", x, name=_name(lowering), shape=whole).terms[0]
    return x


def taken(lowering: Lowering, x: Term, axis: int, indices: Sequence[int]) -> Term:
    """x at `indices` along `axis`: slices, joined."""
    size = lowering.builder.values[x.value].shape[axis - 1]
    if list(indices) == list(range(size)):
        return x
    found: dict[tuple[int, int], Term] = {}
    parts = []
    for start, stop in _runs(indices):
        if (start, stop) == (0, size):
            found[start, stop] = x
        elif (start, stop) not in found:
            found[start, stop] = lowering.keep(
                "slice", x, name=_name(lowering), axis=axis, start=start, stop=stop, step=1
            ).terms[0]
        parts.append(found[start, stop])
    if len(parts) == 1:
        return parts[0]
    names = [part.value for part in parts]
    joined = lowering.emit(
        "concat", names, x.scale, scale_axis=x.axis, name=_name(lowering), axis=axis
    )
    return joined.terms[0]


def _runs(indices: Sequence[int]) -> list[tuple[int, int]]:
    """Ascending neighbours as [start, stop)."""
    runs: list[tuple[int, int]] = []
    for i in indices:
        if runs and runs[-1][1] == i:
            runs[-1] = (runs[-1][0], i + 1)
        else:
            runs.append((i, i + 1))
    return runs


def _indices(size: int, before: int, after: int, mode: str) -> list[int]:
    """What position of a dim of `size` each position of the padded dim repeats."""
    wanted = np.arange(-before, size + after)
    if mode == "replicate":
        wanted = np.clip(wanted, 0, size - 1)
    elif mode == "circular":
        wanted = wanted % size
    else:  # reflect: the border itself is not repeated
        wanted = size - 1 - np.abs(size - 1 - np.abs(wanted))
    return [int(i) for i in wanted]


def _filled(lowering: Lowering, x: Term, padding: tuple[int, ...], level: int) -> Term:
    return lowering.keep("pad", x, name=_name(lowering), padding=padding, value=level).terms[0]


def _name(lowering: Lowering) -> str:
    return f"{lowering.node.name}.pad"
