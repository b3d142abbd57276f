"""Resizing along one dim as a matrix: whatever the mode, each number is a weighted sum."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import fx

from qatspec.graph.context import GraphContext
from qatspec.ops.resize.calls import Interpolate


def matrices(node: fx.Node, context: GraphContext) -> list[np.ndarray]:
    """Return float64 (out, in) for each spatial dim, by letting torch resize unit vectors.

    The tensor is resized along one dim after the other, in any order: every mode of
    `interpolate` is separable.
    """
    call = context.call(node, Interpolate)
    before, after = context.shape(call.x)[2:], context.shape(node)[2:]
    return [_matrix(call, axis, before, after) for axis in range(len(after))]


def _matrix(
    call: Interpolate, axis: int, before: tuple[int, ...], after: tuple[int, ...]
) -> np.ndarray:
    """The other dims have two positions, which stay two. With one, torch 2.13 takes the tensor
    for one with the channels innermost, and antialiasing gives other numbers."""
    dims = len(before)
    size, factors = after[axis], call.scale_factor
    arguments: dict[str, Any] = {"mode": call.mode}
    if factors is None:
        arguments["size"] = _at(axis, size, 2, dims)
    else:
        factor = factors[axis] if isinstance(factors, (tuple, list)) else factors
        if call.recompute_scale_factor:
            factor = size / before[axis]
        arguments["scale_factor"] = _at(axis, float(factor), 1.0, dims)
    if call.align_corners is not None:
        arguments["align_corners"] = call.align_corners
    if call.antialias:
        arguments["antialias"] = True
    units = torch.eye(before[axis], dtype=torch.float64)
    units = units.reshape(1, before[axis], *_at(axis, before[axis], 1, dims))
    units = units.expand(1, before[axis], *_at(axis, before[axis], 2, dims)).contiguous()
    weights = F.interpolate(units, **arguments)[0]
    first = tuple(slice(None) if i in (0, axis + 1) else 0 for i in range(dims + 1))
    return np.asarray(weights[first].T.numpy())


def _at(axis: int, value: Any, other: Any, dims: int) -> list[Any]:
    return [value if i == axis else other for i in range(dims)]
