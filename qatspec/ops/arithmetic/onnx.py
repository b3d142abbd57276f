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
        factor = q.graph.const("alpha", call.alpha, q.dtype(node))
        names[1] = q.graph.node("Mul", [names[1], factor], f"{node.name}.alpha")
    return q.graph.node(_OPS[str(q.context.op(node))], names, node.name)


def write_neg(node: fx.Node, q: QdqWriter) -> str:
    return q.graph.node("Neg", [q.operand(node.args[0])], node.name)


def write_div(node: fx.Node, q: QdqWriter) -> str:
    """The quotient, as it is or rounded as `rounding_mode` says."""
    call = q.context.call(node, Binary)
    operands = q.same_type(node, call.x, call.other)
    if call.rounding_mode == "floor":
        return floor_quotient(q, node, *operands)
    if call.rounding_mode is None or q.dtype(node).kind in "iu":  # ONNX truncates integers
        return q.graph.node("Div", operands, node.name)
    quotient = q.graph.node("Div", operands, f"{node.name}.quotient")
    size = q.graph.node("Abs", [quotient], f"{node.name}.size")
    size = q.graph.node("Floor", [size], f"{node.name}.floor")
    return q.graph.node(
        "Mul", [size, q.graph.node("Sign", [quotient], f"{node.name}.sign")], node.name
    )
