"""Resizing of feature maps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import fx

from qatspec.graph.context import GraphContext
from qatspec.program.interp import bilinear_taps, nearest_index
from qatspec.types import Annotation, Float, Observed, Shared

if TYPE_CHECKING:
    from qatspec.lower.context import Lowering
    from qatspec.program.lowered import Sum


def annotate(node: fx.Node, context: GraphContext) -> Annotation:
    """Nearest copies numbers (the input's scale); bilinear blends them (a range of its own)."""
    mode = context.setting(node, 3, "mode", "nearest")
    if mode == "nearest":
        return Annotation(output=Shared(), kind="passive")
    if mode == "bilinear":
        return Annotation(output=Observed())
    return Annotation(output=Float(f"interpolate mode {mode!r} has no integer form"), inputs=())


#: Fraction bits of the bilinear weights: the sum of an int8 has 7 + 2 * 11 bits, inside int32.
_BITS = 11


def lower(node: fx.Node, lowering: Lowering) -> Sum:
    """Nearest: copies. Bilinear: weights of 11 fraction bits along each axis."""
    mode = lowering.context.setting(node, 3, "mode", "nearest")
    x = lowering.integer(node.args[0])
    sizes, size = lowering.shape(node.args[0])[2:], lowering.shape()[2:]
    if mode not in ("nearest", "nearest-exact", "bilinear") or len(size) != 2:
        lowering.fail(f"interpolate mode {mode!r} has no integer form", "use nearest or bilinear")
    if mode != "bilinear":
        wanted = [nearest_index(s, o) for s, o in zip(sizes, size, strict=True)]
        _same_positions(node, lowering, wanted, 0.0)
        return lowering.keep("resize_nearest", x, size=size)
    if lowering.dtype(x) == "int16":
        lowering.fail("a bilinear resize of int16 exceeds int32", "quantize its input to 8 bits")
    aligned = bool(lowering.context.setting(node, 4, "align_corners", False))
    taps = [bilinear_taps(s, o, aligned, _BITS) for s, o in zip(sizes, size, strict=True)]
    real = [low + (high - low) * w / 2**_BITS for low, high, w in taps]
    _same_positions(node, lowering, real, 2.0**-_BITS)
    scale = x.scale / 4.0**_BITS
    return lowering.emit(
        "resize_bilinear", (x.value,), scale, size=size, align_corners=aligned, bits=_BITS
    )


def _same_positions(
    node: fx.Node, lowering: Lowering, wanted: list[np.ndarray], tolerance: float
) -> None:
    """Ask torch itself which positions it reads, by resizing the coordinates."""
    sizes = lowering.shape(node.args[0])[2:]
    setting = lowering.context.setting
    arguments = {
        name: setting(node, i, name)
        for i, name in enumerate(("size", "scale_factor", "mode", "align_corners"), 1)
    }
    arguments["mode"] = arguments["mode"] or "nearest"
    if setting(node, 5, "recompute_scale_factor"):
        arguments["recompute_scale_factor"] = True
    for axis in (0, 1):
        shape = (1, 1, sizes[0], 1) if axis == 0 else (1, 1, 1, sizes[1])
        grid = torch.arange(sizes[axis], dtype=torch.float32).reshape(shape).expand(1, 1, *sizes)
        found = F.interpolate(grid, **{k: v for k, v in arguments.items() if v is not None})
        line = found[0, 0, :, 0] if axis == 0 else found[0, 0, 0]
        if np.abs(line.numpy() - wanted[axis]).max() > tolerance:
            lowering.fail(
                f"torch reads other positions than floor(i * {sizes[axis]} / {line.numel()})",
                "resize by a whole factor, or by `size` instead of `scale_factor`",
            )
