"""Resizing of integers."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import fx

from qatspec.graph.context import GraphContext
from qatspec.kinds.resizes.taps import bilinear_taps, nearest_index
from qatspec.lowering import Lowering, ScaledInts, resampled, taken
from qatspec.lowering.forms import fraction_bits, on_operand_grid
from qatspec.ops.resize.calls import LINEAR, NEAREST, Interpolate
from qatspec.ops.resize.matrices import matrices
from qatspec.types import Annotation, Observed, Shared

#: Fraction bits of the bilinear weights: the sum of an int8 has 7 + 2 * 11 bits, inside int32.
_BITS = 11


def annotate(node: fx.Node, context: GraphContext) -> Annotation:
    """Nearest copies numbers (the input's scale); other modes blend them (a range of its own)."""
    if context.call(node, Interpolate).mode in NEAREST:
        return Annotation(output=Shared(), kind="passive")
    return Annotation(output=Observed())


def lower(node: fx.Node, lowering: Lowering) -> ScaledInts:
    """Nearest: copies. Linear: two pixels along each axis. Any other: a matrix along each axis."""
    call = lowering.context.call(node, Interpolate)
    x = lowering.small_integers(call.x)
    dims = range(len(lowering.shape()) - 2)
    if call.mode in NEAREST:
        return _nearest(lowering, x, [_positions(call, lowering, axis) for axis in dims])
    if lowering.dtype(x) != "int16" and _has_standard_taps(call, lowering):
        return _linear(lowering, x, call)
    return resampled(lowering, x, matrices(node, lowering.context))


def _has_standard_taps(call: Interpolate, lowering: Lowering) -> bool:
    """Return whether the kind `resize_bilinear` reads the same positions as torch, which other
    factors than size / size move."""
    if call.mode not in LINEAR or call.antialias:
        return False
    sizes = zip(lowering.shape(call.x)[2:], lowering.shape()[2:], strict=True)
    for axis, (before, after) in enumerate(sizes):
        low, high, weight = bilinear_taps(before, after, bool(call.align_corners), _BITS)
        wanted = low + (high - low) * weight / 2**_BITS
        if np.abs(_positions(call, lowering, axis) - wanted).max() > 2.0**-_BITS:
            return False
    return True


def _linear(lowering: Lowering, x: ScaledInts, call: Interpolate) -> ScaledInts:
    """Weights of 11 fraction bits along each axis."""
    sizes, size = lowering.shape(call.x)[2:], lowering.shape()[2:]
    channels = lowering.value_shape(x)[0]
    name, shape = lowering.node.name, (channels, *((1, *sizes)[-2:]))
    row = len(size) == 1
    if row:  # of a picture
        x = lowering.emit_same_scale("reshape", x, name=f"{name}.row", shape=shape)
    bits = fraction_bits(lowering, _BITS)
    y = lowering.emit(
        "resize_bilinear", (x.value,), x.scale / 4.0**bits, name=f"{name}.sum" if row else name,
        size=(1, *size)[-2:], align_corners=bool(call.align_corners), bits=bits,
    )  # fmt: skip
    y = on_operand_grid(lowering, y, x, 2 * bits)
    return lowering.emit_same_scale("reshape", y, shape=(channels, *size)) if row else y


def _nearest(lowering: Lowering, x: ScaledInts, positions: list[np.ndarray]) -> ScaledInts:
    """Height and width at once where they are floor(i * in / out), else dim by dim."""
    indices = [[int(i) for i in chosen] for chosen in positions]
    shape = lowering.value_shape(x)
    size = tuple(len(chosen) for chosen in indices)
    if len(size) == 2 and all(
        chosen == nearest_index(before, len(chosen)).tolist()
        for chosen, before in zip(indices, shape[1:], strict=True)
    ):
        return lowering.emit_same_scale("resize_nearest", x, size=size)
    for axis, chosen in enumerate(indices, 2):
        x = taken(lowering, x, axis, chosen)
    return x


def _positions(call: Interpolate, lowering: Lowering, axis: int) -> np.ndarray:
    """Return the positions along a spatial dim at which torch reads, by letting torch resize a map
    of the coordinates themselves."""
    sizes = lowering.shape(call.x)[2:]
    arguments = {
        "size": None if call.size is None else lowering.shape()[2:],  # from another map's shape
        "scale_factor": call.scale_factor,
        "mode": call.mode,
        "align_corners": call.align_corners,
        "recompute_scale_factor": call.recompute_scale_factor or None,
    }
    ramp = [-1 if i == axis else 1 for i in range(len(sizes))]
    grid = torch.arange(sizes[axis], dtype=torch.float32).reshape(1, 1, *ramp).expand(1, 1, *sizes)
    indices = F.interpolate(grid, **{k: v for k, v in arguments.items() if v is not None})[0, 0]
    first = tuple(slice(None) if i == axis else 0 for i in range(len(sizes)))
    return np.asarray(indices[first].numpy())
