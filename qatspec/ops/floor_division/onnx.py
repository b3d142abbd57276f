"""Division that rounds down in float ONNX."""

from __future__ import annotations

from torch import fx

from qatspec.ops.floor_division.calls import FloorDivide
from qatspec.qdq import QdqWriter, floor_quotient


def to_onnx(node: fx.Node, q: QdqWriter) -> str:
    """The floor of the exact quotient."""
    call = q.context.call(node, FloorDivide)
    return floor_quotient(q, node, *q.same_type(node, call.x, call.other))
