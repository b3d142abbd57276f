"""Weighted sums along single dims, as linear layers with constant weights."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from qatspec.ir import RANGE
from qatspec.lowering.lowering import Lowering
from qatspec.lowering.moves import permuted
from qatspec.lowering.operands import Grid
from qatspec.lowering.pending import ScaledInts

#: Fraction bits of the weights: with 16 bits of the tensor and 1 of overshoot, inside int32.
BITS = 14


def resampled(lowering: Lowering, x: ScaledInts, matrices: Sequence[np.ndarray]) -> ScaledInts:
    """Multiply the last dims of a tensor by a matrix each, one dim after the other.

    lowering  the state of lowering.
    x         on 4, 8 or 16 bits with one scale.
    matrices  float64 (out, in), one for each of the last dims; the sums of absolute weights of a
              row are below 2 (interpolation).

    Returns int32 sums. Between two dims they are rounded to 16 bits, at least 2^-7 of a step of an
    8-bit tensor. Raises Unlowerable QS704 where the sums exceed 32 bits.
    """
    rank = len(lowering.value_shape(x)) + 1
    dims = range(rank - len(matrices), rank)
    steps = [(d, m) for d, m in zip(dims, matrices, strict=True) if not _is_identity(m)]
    for count, (dim, matrix) in enumerate(reversed(steps), 1):
        levels = _levels(matrix)
        order = [d for d in range(rank) if d != dim] + [dim]
        x = permuted(lowering, x, order) if dim < rank - 1 else x
        weight = lowering.const("weights", "int16", levels)
        name = f"{lowering.node.name}.sum{count}"
        x = lowering.emit("linear", (x.value, weight), x.scale / 2.0**BITS, name=name)
        if count < len(steps):
            reach = lowering.builder.ranges[x.value].magnitude
            grid = Grid(float(x.step) * max(reach / RANGE["int16"][1], 1.0), "int16")
            x = lowering.quantize(x, grid, f"{name}.q")
        if dim < rank - 1:
            x = permuted(lowering, x, [order.index(d) for d in range(rank)])
    return x


def _levels(matrix: np.ndarray) -> np.ndarray:
    """Weights with BITS fraction bits; rounding does not change the sum of a row."""
    levels = np.rint(matrix * 2.0**BITS)
    largest = np.abs(levels).argmax(1)
    levels[np.arange(len(levels)), largest] += np.rint(matrix.sum(1) * 2.0**BITS) - levels.sum(1)
    return levels


def _is_identity(matrix: np.ndarray) -> bool:
    return matrix.shape[0] == matrix.shape[1] and bool((matrix == np.eye(len(matrix))).all())
