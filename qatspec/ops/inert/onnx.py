"""Ops that change nothing in evaluation: no node."""

from __future__ import annotations

from torch import fx

from qatspec.qdq import QdqWriter


def to_onnx(node: fx.Node, q: QdqWriter) -> str:
    return q.operand(node.args[0])
