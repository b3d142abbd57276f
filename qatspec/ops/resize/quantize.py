"""Resizing of integers."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import fx

from qatspec.graph.context import GraphContext
from qatspec.kinds.resizes.taps import bilinear_taps, nearest_index
from qatspec.lowering import Lowering, ScaledInts, taken
from qatspec.ops.resize.calls import LINEAR, NEAREST, Interpolate
from qatspec.types import Annotation, Float, Observed, Shared

#: Fraction bits of the bilinear weights: the sum of an int8 has 7 + 2 * 11 bits, inside int32.
_BITS = 11


def annotate(node: fx.Node, context: GraphContext) -> Annotation:
    """Nearest copies numbers (the input's scale); bilinear blends them (a range of its own)."""
    mode = context.call(node, Interpolate).mode
    if mode in NEAREST:
        return Annotation(output=Shared(), kind="passive")
    if mode in LINEAR:
        return Annotation(output=Observed())
    return Annotation(output=Float(f"interpolate mode {mode!r} has no integer form"), inputs=())


def lower(node: fx.Node, lowering: Lowering) -> ScaledInts:
    """Nearest: copies. Linear: weights of 11 fraction bits along each axis."""
    call = lowering.context.call(node, Interpolate)
    x = lowering.small_integers(call.x)
    positions = [_positions(call, lowering, axis) for axis in range(len(lowering.shape()) - 2)]
    if call.mode in NEAREST:
        return _nearest(lowering, x, positions)
    if call.mode not in LINEAR:
        lowering.fail(
            f"interpolate mode {call.mode!r} has no integer form", "use nearest or bilinear"
        )
    if lowering.dtype(x) == "int16":
        lowering.fail("a linear resize of int16 exceeds int32", "quantize its input to 8 bits")
    sizes, size = lowering.shape(call.x)[2:], lowering.shape()[2:]
    aligned = bool(call.align_corners)
    for found, before, after in zip(positions, sizes, size, strict=True):
        low, high, weight = bilinear_taps(before, after, aligned, _BITS)
        if np.abs(found - (low + (high - low) * weight / 2**_BITS)).max() > 2.0**-_BITS:
            lowering.fail(
                f"its scale_factor is not {after} / {before}, so torch reads other positions",
                "resize by a whole factor, or by `size` instead of `scale_factor`",
            )
    scale = x.scale / 4.0**_BITS
    shape = (lowering.shape()[1], *((1, *sizes)[-2:]))
    row = len(size) == 1
    if row:  # of a picture
        x = lowering.emit_same_scale("reshape", x, name=f"{node.name}.row", shape=shape)
    y = lowering.emit(
        "resize_bilinear", (x.value,), scale, name=f"{node.name}.sum" if row else node.name,
        size=(1, *size)[-2:], align_corners=aligned, bits=_BITS,
    )  # fmt: skip
    return lowering.emit_same_scale("reshape", y, shape=lowering.shape()[1:]) if row else y


def _nearest(lowering: Lowering, x: ScaledInts, positions: list[np.ndarray]) -> ScaledInts:
    """Height and width at once where they are floor(i * in / out), else dim by dim."""
    indices = [[int(i) for i in found] for found in positions]
    shape = lowering.value_shape(x)
    size = tuple(len(found) for found in indices)
    if len(size) == 2 and all(
        found == nearest_index(before, len(found)).tolist()
        for found, before in zip(indices, shape[1:], strict=True)
    ):
        return lowering.emit_same_scale("resize_nearest", x, size=size)
    for axis, found in enumerate(indices, 2):
        x = taken(lowering, x, axis, found)
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
    found = F.interpolate(grid, **{k: v for k, v in arguments.items() if v is not None})[0, 0]
    first = tuple(slice(None) if i == axis else 0 for i in range(len(sizes)))
    return np.asarray(found[first].numpy())
