"""Joining tensors in ONNX."""

from __future__ import annotations

import numpy as np
from torch import fx

from qatspec.ops.joins.calls import Join
from qatspec.qdq import QdqWriter


def to_onnx(node: fx.Node, q: QdqWriter) -> str:
    """Concat; what is stacked gets its new dim first."""
    call = q.context.call(node, Join)
    dim, parts = int(call.dim) % len(q.context.shape(node)), call.tensors
    names = [q.operand(p) for p in parts] if isinstance(parts, (list, tuple)) else q.names[parts]
    if q.context.op(node) == "stack":
        axes = q.graph.const("axes", [dim], np.int64)
        names = [q.graph.node("Unsqueeze", [n, axes], f"{node.name}.part") for n in names]
    return q.graph.node("Concat", names, node.name, axis=dim)
