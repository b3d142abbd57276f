"""Float ONNX forms of arithmetic on two tensors, or a tensor and a number, for the Q/DQ file."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import fx

if TYPE_CHECKING:
    from qatspec.onnx.qdq import QdqWriter

Write = Callable[["QdqWriter", fx.Node], Any]


def operands(q: QdqWriter, node: fx.Node, second: str = "other") -> list[str]:
    """Both operands, in the type of the result. second: torch's name of the second."""
    b = node.args[1] if len(node.args) > 1 else node.kwargs[second]
    return [q.operand(value, q.dtype(node)) for value in (node.args[0], b)]


def binary(op: str, second: str = "other") -> Write:
    """One ONNX op; `alpha` scales the second operand before it."""

    def write(q: QdqWriter, node: fx.Node) -> str:
        names = operands(q, node, second)
        alpha = node.kwargs.get("alpha", 1)
        if alpha != 1:
            factor = q.w.const("alpha", alpha, q.dtype(node))
            names[1] = q.w.node("Mul", [names[1], factor], f"{node.name}.alpha")
        return q.w.node(op, names, node.name)

    return write


def divide(q: QdqWriter, node: fx.Node) -> str:
    """The quotient, as it is or rounded as `rounding_mode` says."""
    mode = node.kwargs.get("rounding_mode")
    if mode == "floor":
        return floor_divide(q, node)
    integers = np.issubdtype(q.dtype(node), np.integer)  # ONNX truncates their quotient
    if mode is None or integers:
        return q.w.node("Div", operands(q, node), node.name)
    quotient = q.w.node("Div", operands(q, node), f"{node.name}.quotient")
    size = q.w.node("Abs", [quotient], f"{node.name}.size")
    size = q.w.node("Floor", [size], f"{node.name}.floor")
    return q.w.node("Mul", [size, q.w.node("Sign", [quotient], f"{node.name}.sign")], node.name)


def floor_divide(q: QdqWriter, node: fx.Node) -> str:
    """(a - a mod b) / b, where a mod b has the sign of b: the floor of the exact quotient, which
    the floor of the rounded one is not (1.0 // 0.1 is 9)."""
    w, name, dtype = q.w, node.name, q.dtype(node)
    a, b = operands(q, node)
    if np.issubdtype(dtype, np.integer):
        rest = w.node("Mod", [a, b], f"{name}.rest")
        return w.node("Div", [w.node("Sub", [a, rest], f"{name}.whole"), b], name)
    rest = w.node("Mod", [a, b], f"{name}.rest", fmod=1)  # ONNX gives it the sign of a
    whole = w.node("Sub", [a, rest], f"{name}.whole")
    quotient = w.node("Round", [w.node("Div", [whole, b], f"{name}.div")], f"{name}.truncated")
    signs = [w.node("Sign", [x], f"{name}.sign") for x in (rest, b)]
    against = w.node("Mul", signs, f"{name}.against")
    zero = w.const("zero", 0, dtype)
    below = w.cast(w.node("Less", [against, zero], f"{name}.below"), dtype, f"{name}.step")
    return w.node("Sub", [quotient, below], name)
