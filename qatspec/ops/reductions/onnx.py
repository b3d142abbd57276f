"""Reductions over whole dims in float ONNX."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import fx

from qatspec.ops.reductions.calls import Reduce, VectorNorm
from qatspec.qdq import QdqWriter


def write_total(node: fx.Node, q: QdqWriter) -> str:
    return _reduction(node, q, {"mean": "ReduceMean", "sum": "ReduceSum"}[str(q.context.op(node))])


def write_max(node: fx.Node, q: QdqWriter) -> Any:
    """Of two tensors, over all, or over a dim: torch.max gives indices beside the values."""
    call = q.context.call(node, Reduce)
    if isinstance(call.dim, fx.Node):
        return q.graph.node("Max", q.same_type(node, call.x, call.dim), node.name)
    if not isinstance(q.context.value(node), (tuple, list)):
        return _reduction(node, q, "ReduceMax")
    x, keep = q.operand(call.x), bool(call.keepdim)
    (axis,) = call.axes(len(q.context.shape(call.x)))
    values = q.reduced("ReduceMax", x, [axis], keep, node.name)
    name = f"{node.name}.indices"
    return [values, q.graph.node("ArgMax", [x], name, axis=axis, keepdims=int(keep))]


def write_argmax(node: fx.Node, q: QdqWriter) -> str:
    """The first index of the maximum along a dim, or in the whole tensor."""
    call = q.context.call(node, Reduce)
    x = q.operand(call.x)
    if call.dim is not None:
        (axis,) = call.axes(len(q.context.shape(call.x)))
        return q.graph.node("ArgMax", [x], node.name, axis=axis, keepdims=int(call.keepdim))
    x = q.graph.node("Reshape", [x, q.graph.const("all", [-1], np.int64)], f"{node.name}.flat")
    x = q.graph.node("ArgMax", [x], f"{node.name}.place", axis=0, keepdims=1)
    return q.reshaped(node, x, (1,), q.sizes(node), node.name)


def write_length(node: fx.Node, q: QdqWriter) -> str:
    """ReduceL2."""
    call = q.context.call(node, VectorNorm)
    if call.ord != 2:
        q.fail(node, f"a norm of order {call.ord}")
    axes = call.reduce.axes(len(q.context.shape(call.x)))
    return q.reduced("ReduceL2", q.operand(call.x), axes, bool(call.keepdim), node.name)


def _reduction(node: fx.Node, q: QdqWriter, op: str) -> str:
    call = q.context.call(node, Reduce)
    axes = call.axes(len(q.context.shape(call.x)))
    return q.reduced(op, q.operand(call.x), axes, bool(call.keepdim), node.name)
