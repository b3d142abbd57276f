"""Padding in ONNX."""

from __future__ import annotations

from torch import fx

from qatspec.graph.discarded import padding_of
from qatspec.qdq import QdqWriter


def to_onnx(node: fx.Node, q: QdqWriter) -> str:
    padding, rank = padding_of(node, q.context), len(q.context.shape(node))
    x = q.operand(node.args[0])
    return q.padded(x, padding.amounts, padding.mode, padding.value, rank, node.name)
