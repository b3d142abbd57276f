"""Running sums in float ONNX."""

from __future__ import annotations

import numpy as np
from torch import fx

from qatspec.ops.running.calls import RunningSum
from qatspec.qdq import QdqWriter


def to_onnx(node: fx.Node, q: QdqWriter) -> str:
    """CumSum."""
    call = q.context.call(node, RunningSum)
    axis = q.graph.const("axis", call.axis(len(q.context.shape(node))), np.int64)
    return q.graph.node("CumSum", [q.operand(call.x), axis], node.name)
