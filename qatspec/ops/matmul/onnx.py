"""Products of matrices in float ONNX."""

from __future__ import annotations

from torch import fx

from qatspec.ops.matmul.calls import Matmul
from qatspec.qdq import QdqWriter


def to_onnx(node: fx.Node, q: QdqWriter) -> str:
    call = q.context.call(node, Matmul)
    return q.graph.node("MatMul", q.same_type(node, call.x, call.second), node.name)
