"""Rows of a table in float ONNX."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, fx

from qatspec.qdq import QdqWriter


@dataclass(frozen=True, slots=True)
class _Embedding:
    x: Any
    weight: Any
    padding_idx: int | None = None
    max_norm: float | None = None

    ORDERS: ClassVar = {"torch.embedding": ("weight", "x", "padding_idx")}


def to_onnx(node: fx.Node, q: QdqWriter) -> str:
    """Gather."""
    call = q.context.call(node, _Embedding)
    if call.max_norm is not None:
        q.fail(node, "an embedding that rescales its rows")
    if isinstance(call.weight, Tensor):
        table = q.parameter(node, "weight", call.weight.detach().numpy())
    else:
        table = q.operand(call.weight)
    return q.graph.node("Gather", [table, q.operand(call.x)], node.name, axis=0)
