"""Resizing in float ONNX."""

from __future__ import annotations

import numpy as np
from torch import fx

from qatspec.ops.resize.calls import LINEAR, Interpolate
from qatspec.qdq import QdqWriter


def to_onnx(node: fx.Node, q: QdqWriter) -> str:
    """Resize; by the factor where one is given, else by the size."""
    call = q.context.call(node, Interpolate)
    shapes = [q.context.shape(n)[2:] for n in (call.x, node)]
    linear = "align_corners" if call.align_corners else "pytorch_half_pixel"
    coordinates = {
        "nearest": ("nearest", "asymmetric"),
        "nearest-exact": ("nearest", "half_pixel"),
        **dict.fromkeys(LINEAR, ("linear", linear)),
    }.get(call.mode)
    if coordinates is None:
        q.fail(node, f"interpolate mode {call.mode!r}")
    attrs = {"mode": coordinates[0], "coordinate_transformation_mode": coordinates[1]}
    if attrs["mode"] == "nearest":
        attrs["nearest_mode"] = "floor" if call.mode == "nearest" else "round_prefer_ceil"
    x, w, given = q.operand(call.x), q.graph, call.scale_factor
    if given is None or call.recompute_scale_factor:
        factors = [after / before for before, after in zip(*shapes, strict=True)]
    else:
        factors = list(given) if isinstance(given, (tuple, list)) else [given] * len(shapes[0])
    if given is not None or all(factor == int(factor) for factor in factors):
        scales = w.const(f"{node.name}.scales", [1.0, 1.0, *map(float, factors)], np.float32)
        return w.node("Resize", [x, "", scales], node.name, **attrs)
    shape = w.node("Shape", [x], f"{node.name}.shape", start=0, end=2)
    wanted = [shape, w.const(f"{node.name}.size", shapes[1], np.int64)]
    sizes = w.node("Concat", wanted, f"{node.name}.sizes", axis=0)
    return w.node("Resize", [x, "", "", sizes], node.name, **attrs)
