"""Pixel and channel shuffles in ONNX."""

from __future__ import annotations

from torch import fx

from qatspec.ops.shuffles.calls import shuffle_of
from qatspec.qdq import QdqWriter


def to_onnx(node: fx.Node, q: QdqWriter) -> str:
    """Dims split, swapped and merged; depth to space has an op of its own."""
    shuffle, x = shuffle_of(node, q.context), q.operand(node.args[0])
    if q.context.op(node) == "pixel_shuffle":
        return q.graph.node("DepthToSpace", [x], node.name, blocksize=shuffle.factor, mode="CRD")
    before = q.sizes(node.args[0])
    apart = (before[0], *shuffle.split(*q.context.shape(node.args[0])[1:]))
    x = q.reshaped(node, x, before, apart, f"{node.name}.split")
    x = q.graph.node("Transpose", [x], f"{node.name}.swapped", perm=list(shuffle.perm))
    return q.reshaped(node, x, apart, q.sizes(node), node.name)
