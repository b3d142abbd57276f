"""Float ONNX forms of functions of one number and of softmax, for the Q/DQ file."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import fx

if TYPE_CHECKING:
    from qatspec.onnx.qdq import QdqWriter

Write = Callable[["QdqWriter", fx.Node], Any]


def unary(op: str, **attrs: Any) -> Write:
    return lambda q, node: q.w.node(op, [q.operand(node.args[0])], node.name, **attrs)


def clamp_bounds(q: QdqWriter, node: fx.Node) -> tuple[Any, Any]:
    """Lower and upper bound of one of CLAMP_OPS: a number, None, or a node that gives a tensor."""
    setting, op = q.context.setting, q.context.op(node)
    if op == "hardtanh":
        return setting(node, 1, "min_val", -1.0), setting(node, 2, "max_val", 1.0)
    if op == "clamp":
        return setting(node, 1, "min"), setting(node, 2, "max")
    return 0.0, None if op == "relu" else 6.0


def clip(q: QdqWriter, node: fx.Node) -> str:
    low, high = clamp_bounds(q, node)
    bounds = ["" if b is None else q.operand(b, q.dtype(node)) for b in (low, high)]
    x = q.operand(node.args[0])
    if not any(isinstance(b, fx.Node) for b in (low, high)):
        return q.w.node("Clip", [x, *bounds], node.name)
    given = [(op, bound) for op, bound in zip(("Max", "Min"), bounds, strict=True) if bound]
    for i, (op, bound) in enumerate(given, 1):
        name = node.name if i == len(given) else f"{node.name}.low"
        x = q.w.node(op, [x, bound], name)
    return x


def silu(q: QdqWriter, node: fx.Node) -> str:
    x = q.operand(node.args[0])
    return q.w.node("Mul", [x, q.w.node("Sigmoid", [x], f"{node.name}.sigmoid")], node.name)


def gelu(q: QdqWriter, node: fx.Node) -> str:
    """x / 2 * (1 + erf(x / sqrt 2)), or 1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3))."""
    x, w = q.operand(node.args[0]), q.w
    if q.context.setting(node, 1, "approximate", "none") == "tanh":
        cube = w.node("Pow", [x, w.const("three", 3.0, np.float32)], f"{node.name}.cube")
        cube = w.node("Mul", [cube, w.const("c", 0.044715, np.float32)], f"{node.name}.part")
        inner = w.node("Add", [x, cube], f"{node.name}.sum")
        root = w.const("root2pi", math.sqrt(2.0 / math.pi), np.float32)
        bend = w.node("Tanh", [w.node("Mul", [inner, root], f"{node.name}.x")], f"{node.name}.tanh")
        return _half_of_both(q, node, x, bend)
    root = w.const("root2", math.sqrt(0.5), np.float32)
    erf = w.node("Erf", [w.node("Mul", [x, root], f"{node.name}.x")], f"{node.name}.erf")
    return _half_of_both(q, node, x, erf)


def _half_of_both(q: QdqWriter, node: fx.Node, x: str, bend: str) -> str:
    w = q.w
    both = w.node("Add", [bend, w.const("one", 1.0, np.float32)], f"{node.name}.both")
    half = w.node("Mul", [x, w.const("half", 0.5, np.float32)], f"{node.name}.half")
    return w.node("Mul", [half, both], node.name)


def softplus(q: QdqWriter, node: fx.Node) -> str:
    """log(1 + exp(beta x)) / beta; torch's threshold changes no float32."""
    x, beta = q.operand(node.args[0]), float(q.context.setting(node, 1, "beta", 1.0))
    if beta == 1.0:
        return q.w.node("Softplus", [x], node.name)
    factor = q.w.const("beta", beta, np.float32)
    x = q.w.node("Softplus", [q.w.node("Mul", [x, factor], f"{node.name}.x")], f"{node.name}.soft")
    return q.w.node("Div", [x, factor], node.name)


def leaky_relu(q: QdqWriter, node: fx.Node) -> str:
    slope = float(q.context.setting(node, 1, "negative_slope", 0.01))
    return q.w.node("LeakyRelu", [q.operand(node.args[0])], node.name, alpha=slope)


def elu(q: QdqWriter, node: fx.Node) -> str:
    alpha = float(q.context.setting(node, 1, "alpha", 1.0))
    return q.w.node("Elu", [q.operand(node.args[0])], node.name, alpha=alpha)


def prelu(q: QdqWriter, node: fx.Node) -> str:
    module: Any = q.context.module(node)
    slope = q.tensor(node.args[1]) if module is None else module.weight
    array = slope.detach().numpy().reshape(-1, *[1] * (len(q.context.shape(node)) - 2))
    name = q.w.const(f"{node.name}.slope", array, np.float32)
    return q.w.node("PRelu", [q.operand(node.args[0]), name], node.name)


def softmax(op: str) -> Write:
    """op: Softmax or LogSoftmax."""

    def write(q: QdqWriter, node: fx.Node) -> str:
        axis = q.context.setting(node, 1, "dim")
        if axis is None:  # torch chooses by rank
            axis = 0 if len(q.sizes(node)) in (0, 1, 3) else 1
        return q.w.node(op, [q.operand(node.args[0])], node.name, axis=int(axis))

    return write


def rsqrt(q: QdqWriter, node: fx.Node) -> str:
    root = q.w.node("Sqrt", [q.operand(node.args[0])], f"{node.name}.sqrt")
    return q.w.node("Reciprocal", [root], node.name)
