"""Softmax and its logarithm in float ONNX."""

from __future__ import annotations

from torch import fx

from qatspec.ops.softmax.calls import Softmax
from qatspec.qdq import QdqWriter


def to_onnx(node: fx.Node, q: QdqWriter) -> str:
    call = q.context.call(node, Softmax)
    op = {"softmax": "Softmax", "log_softmax": "LogSoftmax"}[str(q.context.op(node))]
    axis = call.axis(len(q.sizes(node)))
    return q.graph.node(op, [q.operand(call.x)], node.name, axis=axis)
