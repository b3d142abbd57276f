"""Bounds in float ONNX."""

from __future__ import annotations

from torch import fx

from qatspec.graph.clamps import bounds_of
from qatspec.qdq import QdqWriter


def write_relu(node: fx.Node, q: QdqWriter) -> str:
    return q.graph.node("Relu", [q.operand(node.args[0])], node.name)


def to_onnx(node: fx.Node, q: QdqWriter) -> str:
    """Clip by numbers, Max and Min by tensors."""
    clamp_bounds = bounds_of(node, q.context)
    bounds = [
        "" if b is None else q.operand(b, q.dtype(node))
        for b in (clamp_bounds.low, clamp_bounds.high)
    ]
    x = q.operand(node.args[0])
    if clamp_bounds.are_numbers:
        return q.graph.node("Clip", [x, *bounds], node.name)
    steps = [(op, bound) for op, bound in zip(("Max", "Min"), bounds, strict=True) if bound]
    for i, (op, bound) in enumerate(steps, 1):
        name = node.name if i == len(steps) else f"{node.name}.low"
        x = q.graph.node(op, [x, bound], name)
    return x
