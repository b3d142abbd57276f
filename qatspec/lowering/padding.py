"""Padding by a constant or by the tensor's own values, and selection along a dim."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from qatspec.lowering.lowering import Lowering
from qatspec.lowering.moves import concatenated, cut
from qatspec.lowering.pending import ScaledInts


def padded(
    lowering: Lowering, x: ScaledInts, amounts: Sequence[int], mode: str, level: int = 0
) -> ScaledInts:
    """Pad or crop a tensor, as `torch.nn.functional.pad` does.

    lowering  the state of lowering.
    x         the tensor.
    amounts   elements before and after each dim, the last dim first; negative ones crop.
    mode      "constant", "replicate", "circular" or "reflect".
    level     the integer that "constant" fills in.

    Returns integers on the scale of `x`.
    """
    rank = len(lowering.value_shape(x))
    sides = [(rank - i // 2, amounts[i], amounts[i + 1]) for i in range(0, len(amounts), 2)]
    if mode == "constant":
        x = _around(lowering, x, [(axis, max(b, 0), max(a, 0)) for axis, b, a in sides], level)
    for axis, before, after in sides:
        size = lowering.value_shape(x)[axis - 1]
        kept = list(range(max(-before, 0), size - max(-after, 0)))
        if mode != "constant":
            kept = _indices(size, before, after, mode)
        x = taken(lowering, x, axis, kept)
    return x


def _around(
    lowering: Lowering, x: ScaledInts, sides: Sequence[tuple[int, int, int]], level: int
) -> ScaledInts:
    """x with `level` before and after it along each (axis, before, after)."""
    sides = [side for side in sides if max(side[1:]) > 0]
    rank = len(lowering.value_shape(x))
    if rank == 3 and all(axis > 1 for axis, _, _ in sides):  # height and width at once
        amount = {axis: (b, a) for axis, b, a in sides}
        (left, right), (top, bottom) = amount.get(3, (0, 0)), amount.get(2, (0, 0))
        return _filled(lowering, x, (top, left, bottom, right), level) if sides else x
    for axis, before, after in sides:
        shape = lowering.value_shape(x)
        padded = (*shape[: axis - 1], shape[axis - 1] + before + after, *shape[axis:])
        flat = (prod(shape[: axis - 1]), shape[axis - 1], prod(shape[axis:]))
        x = lowering.emit_same_scale("reshape", x, name=_name(lowering), shape=flat)
        x = _filled(lowering, x, (before, 0, after, 0), level)
        x = lowering.emit_same_scale("reshape", x, name=_name(lowering), shape=padded)
    return x


def taken(lowering: Lowering, x: ScaledInts, axis: int, indices: Sequence[int]) -> ScaledInts:
    """Take parts of a tensor along one dim.

    lowering  the state of lowering.
    x         the tensor.
    axis      the dim, counted with the batch as 0.
    indices   positions along it, in the order of the result; they may repeat.

    Returns integers on the scale of `x`: slices, joined.
    """
    size, name, runs = lowering.value_shape(x)[axis - 1], _name(lowering), _runs(indices)
    parts = {run: cut(lowering, x, axis, slice(*run), size, name) for run in dict.fromkeys(runs)}
    return concatenated(lowering, [parts[run] for run in runs], axis, name)


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
    """Return, for each position of the padded dim, the position of the dim of `size` it repeats."""
    wanted = np.arange(-before, size + after)
    if mode == "replicate":
        wanted = np.clip(wanted, 0, size - 1)
    elif mode == "circular":
        wanted = wanted % size
    else:  # reflect: the border itself is not repeated
        wanted = size - 1 - np.abs(size - 1 - np.abs(wanted))
    return [int(i) for i in wanted]


def _filled(lowering: Lowering, x: ScaledInts, padding: tuple[int, ...], level: int) -> ScaledInts:
    return lowering.emit_same_scale("pad", x, name=_name(lowering), padding=padding, value=level)


def _name(lowering: Lowering) -> str:
    return f"{lowering.node.name}.pad"
