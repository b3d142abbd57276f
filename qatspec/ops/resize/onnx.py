"""Resizing in float ONNX."""

from __future__ import annotations

import numpy as np
from torch import fx

from qatspec.ops.resize.calls import LINEAR, Interpolate
from qatspec.ops.resize.matrices import matrices
from qatspec.qdq import QdqWriter


def to_onnx(node: fx.Node, q: QdqWriter) -> str:
    """Resize, by the factor where one is given, else by the size; matrices where no attributes of
    Resize are certain to give torch's numbers."""
    call = q.context.call(node, Interpolate)
    shapes = [q.context.shape(n)[2:] for n in (call.x, node)]
    linear = "align_corners" if call.align_corners else "pytorch_half_pixel"
    coordinates = {
        "nearest": ("nearest", "asymmetric"),
        "nearest-exact": ("nearest", "half_pixel"),
        **dict.fromkeys(LINEAR, ("linear", linear)),
    }.get(call.mode)
    if coordinates is None or call.antialias:
        return _multiplied(node, q)
    attrs = {"mode": coordinates[0], "coordinate_transformation_mode": coordinates[1]}
    if attrs["mode"] == "nearest":
        attrs["nearest_mode"] = "floor" if call.mode == "nearest" else "round_prefer_ceil"
    x, graph, scale_factor = q.operand(call.x), q.graph, call.scale_factor
    if scale_factor is None or call.recompute_scale_factor:
        factors = [after / before for before, after in zip(*shapes, strict=True)]
    else:
        factors = (
            list(scale_factor)
            if isinstance(scale_factor, (tuple, list))
            else [scale_factor] * len(shapes[0])
        )
    if scale_factor is not None or all(factor == int(factor) for factor in factors):
        scales = graph.const(f"{node.name}.scales", [1.0, 1.0, *map(float, factors)], np.float32)
        return graph.node("Resize", [x, "", scales], node.name, **attrs)
    shape = graph.node("Shape", [x], f"{node.name}.shape", start=0, end=2)
    wanted = [shape, graph.const(f"{node.name}.size", shapes[1], np.int64)]
    sizes = graph.node("Concat", wanted, f"{node.name}.sizes", axis=0)
    return graph.node("Resize", [x, "", "", sizes], node.name, **attrs)


def _multiplied(node: fx.Node, q: QdqWriter) -> str:
    """A product with one matrix for each dim. The dim is the last but one for the first of two
    factors, and moved there where it comes earlier."""
    by_axis = matrices(node, q.context)
    x, rank = q.operand(node.args[0]), len(by_axis) + 2
    for axis, matrix in reversed(list(enumerate(by_axis, 2))):
        name = node.name if axis == 2 else f"{node.name}.dim{axis}"
        if axis == rank - 1:
            weight = q.graph.const(f"{name}.weights", matrix.T, np.float32)
            x = q.graph.node("MatMul", [x, weight], name)
            continue
        order = [d for d in range(rank) if d != axis]
        order.insert(rank - 2, axis)
        moved = order != sorted(order)
        if moved:
            x = q.graph.node("Transpose", [x], f"{name}.moved", perm=order)
        weight = q.graph.const(f"{name}.weights", matrix, np.float32)
        x = q.graph.node("MatMul", [weight, x], f"{name}.product" if moved else name)
        if moved:
            back = [order.index(d) for d in range(rank)]
            x = q.graph.node("Transpose", [x], name, perm=back)
    return x
