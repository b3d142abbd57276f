"""Resizing of feature maps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import fx

from qatspec.graph.context import GraphContext
from qatspec.handlers.padding import taken
from qatspec.kinds.resizes.taps import bilinear_taps, nearest_index
from qatspec.program.lowered import Sum
from qatspec.types import Annotation, Float, Observed, Shared

if TYPE_CHECKING:
    from qatspec.lower.context import Lowering
    from qatspec.program.lowered import Term


_NEAREST = ("nearest", "nearest-exact")
_LINEAR = ("linear", "bilinear")


def annotate(node: fx.Node, context: GraphContext) -> Annotation:
    """Nearest copies numbers (the input's scale); bilinear blends them (a range of its own)."""
    mode = context.setting(node, 3, "mode", "nearest")
    if mode in _NEAREST:
        return Annotation(output=Shared(), kind="passive")
    if mode in _LINEAR:
        return Annotation(output=Observed())
    return Annotation(output=Float(f"interpolate mode {mode!r} has no integer form"), inputs=())


#: Fraction bits of the bilinear weights: the sum of an int8 has 7 + 2 * 11 bits, inside int32.
_BITS = 11


def lower(node: fx.Node, lowering: Lowering) -> Sum:
    """Nearest: copies. Linear: weights of 11 fraction bits along each axis."""
    mode = lowering.context.setting(node, 3, "mode", "nearest")
    x = lowering.integer(node.args[0])
    positions = [_positions(node, lowering, axis) for axis in range(len(lowering.shape()) - 2)]
    if mode in _NEAREST:
        return _nearest(lowering, x, positions)
    if mode not in _LINEAR:
        lowering.fail(f"interpolate mode {mode!r} has no integer form", "use nearest or bilinear")
    if lowering.dtype(x) == "int16":
        lowering.fail("a linear resize of int16 exceeds int32", "quantize its input to 8 bits")
    sizes, size = lowering.shape(node.args[0])[2:], lowering.shape()[2:]
    aligned = bool(lowering.context.setting(node, 4, "align_corners", False))
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
        x = lowering.keep("reshape", x, name=f"{node.name}.row", shape=shape).terms[0]
    y = lowering.emit(
        "resize_bilinear", (x.value,), scale, name=f"{node.name}.sum" if row else node.name,
        size=(1, *size)[-2:], align_corners=aligned, bits=_BITS,
    )  # fmt: skip
    return lowering.keep("reshape", y.terms[0], shape=lowering.shape()[1:]) if row else y


def _nearest(lowering: Lowering, x: Term, positions: list[np.ndarray]) -> Sum:
    """Height and width at once where they are floor(i * in / out), else dim by dim."""
    indices = [[int(i) for i in found] for found in positions]
    shape = lowering.builder.values[x.value].shape
    size = tuple(len(found) for found in indices)
    if len(size) == 2 and all(
        found == nearest_index(before, len(found)).tolist()
        for found, before in zip(indices, shape[1:], strict=True)
    ):
        return lowering.keep("resize_nearest", x, size=size)
    for axis, found in enumerate(indices, 2):
        x = taken(lowering, x, axis, found)
    return Sum((x,))


def _positions(node: fx.Node, lowering: Lowering, axis: int) -> np.ndarray:
    """Where along a spatial dim torch reads: it resizes the coordinates themselves."""
    sizes, setting = lowering.shape(node.args[0])[2:], lowering.context.setting
    arguments = {
        name: setting(node, i, name)
        for i, name in enumerate(("size", "scale_factor", "mode", "align_corners"), 1)
    }
    arguments["mode"] = arguments["mode"] or "nearest"
    if arguments["size"] is not None:  # it may come from another map's shape
        arguments["size"] = lowering.shape()[2:]
    if setting(node, 5, "recompute_scale_factor"):
        arguments["recompute_scale_factor"] = True
    ramp = [-1 if i == axis else 1 for i in range(len(sizes))]
    grid = torch.arange(sizes[axis], dtype=torch.float32).reshape(1, 1, *ramp).expand(1, 1, *sizes)
    found = F.interpolate(grid, **{k: v for k, v in arguments.items() if v is not None})[0, 0]
    first = tuple(slice(None) if i == axis else 0 for i in range(len(sizes)))
    return np.asarray(found[first].numpy())
