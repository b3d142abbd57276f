"""Arithmetic of two tensors, or of a tensor and a number, in float ONNX."""

from __future__ import annotations

from torch import fx

from qatspec.ops.arithmetic.calls import Binary
from qatspec.qdq import QdqWriter, floor_quotient

#: op -> its ONNX op.
_OPS = {"add": "Add", "sub": "Sub", "mul": "Mul", "maximum": "Max", "minimum": "Min"}


def to_onnx(node: fx.Node, q: QdqWriter) -> str:
    """One ONNX op. `alpha` scales the second operand before it is added or subtracted."""
    call = q.context.call(node, Binary)
    names = q.same_type(node, call.x, call.other)
    if call.alpha != 1:
        factor = q.w.const("alpha", call.alpha, q.dtype(node))
        names[1] = q.w.node("Mul", [names[1], factor], f"{node.name}.alpha")
    return q.w.node(_OPS[str(q.context.op(node))], names, node.name)


def write_neg(node: fx.Node, q: QdqWriter) -> str:
    return q.w.node("Neg", [q.operand(node.args[0])], node.name)


def write_div(node: fx.Node, q: QdqWriter) -> str:
    """The quotient, as it is or rounded as `rounding_mode` says."""
    call = q.context.call(node, Binary)
    operands = q.same_type(node, call.x, call.other)
    if call.rounding_mode == "floor":
        return floor_quotient(q, node, *operands)
    if call.rounding_mode is None or q.dtype(node).kind in "iu":  # ONNX truncates integers
        return q.w.node("Div", operands, node.name)
    quotient = q.w.node("Div", operands, f"{node.name}.quotient")
    size = q.w.node("Abs", [quotient], f"{node.name}.size")
    size = q.w.node("Floor", [size], f"{node.name}.floor")
    return q.w.node("Mul", [size, q.w.node("Sign", [quotient], f"{node.name}.sign")], node.name)
