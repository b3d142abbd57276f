"""Functions of one number in float ONNX."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import fx

from qatspec.graph.grids import fake_quant_before
from qatspec.ops.elementwise.calls import Elu, Gelu, LeakyRelu, Pow, Prelu, Softplus
from qatspec.qdq import QdqWriter
from qatspec.quant.elementwise import ElementwiseFunction, values_of
from qatspec.spec.symbols import symbol


def to_onnx(node: fx.Node, q: QdqWriter) -> str:
    """One ONNX op where there is one, else what the function is made of."""
    op = str(q.context.op(node))
    if op in _ONE_OP:
        name, attrs = _ONE_OP[op]
        return q.graph.node(name, [q.operand(node.args[0])], node.name, **attrs)
    return _WRITERS[op](node, q)


def write_pow(node: fx.Node, q: QdqWriter) -> str:
    call = q.context.call(node, Pow)
    return q.graph.node("Pow", q.same_type(node, call.x, call.exponent), node.name)


def write_prelu(node: fx.Node, q: QdqWriter) -> str:
    call = q.context.call(node, Prelu)
    slope = q.tensor(call.weight) if isinstance(call.weight, fx.Node) else call.weight
    array = slope.detach().numpy().reshape(-1, *[1] * (len(q.context.shape(node)) - 2))
    name = q.graph.const(f"{node.name}.slope", array, np.float32)
    return q.graph.node("PRelu", [q.operand(call.x), name], node.name)


def write_function(node: fx.Node, q: QdqWriter) -> str:
    """One ONNX op where one is the function, else its table over the integers of its operand."""
    module = q.context.module(node)
    names: tuple[str, ...] = (symbol(type(module)),)
    if isinstance(module, ElementwiseFunction):
        names = module.rule_names
    for name in names:
        package, _, last = name.rpartition(".")
        op = _STANDARD.get(last.lower()) if package.startswith("torch") else None
        if op and len(node.args) == 1 and (op != "Mish" or q.opset >= 18):
            return q.graph.node(op, [q.operand(node.args[0])], node.name)
    return _write_table(node, q)


def _write_table(node: fx.Node, q: QdqWriter) -> str:
    grid = fake_quant_before(node.args[0], q.context)
    if grid is None:
        q.fail(node, "a function of one number whose operand is on no integer grid")
    low, high, graph = grid.qspec.qmin, grid.qspec.qmax, q.graph
    scale = grid.scale.detach().cpu().reshape(())
    module = q.context.module(node)
    assert module is not None
    x = torch.arange(low, high + 1, dtype=torch.float32) * scale
    y = values_of(module, q.operands(node), q.context.shape(node.args[0]), x)
    step = graph.const(f"{node.name}.scale", scale.numpy(), np.float32)
    level = graph.node("Div", [q.operand(node.args[0]), step], f"{node.name}.quotient")
    level = graph.node("Round", [level], f"{node.name}.rounded")
    first = graph.const(f"{node.name}.first", low, np.float32)
    index = graph.node("Sub", [level, first], f"{node.name}.place")
    table = graph.const(f"{node.name}.table", y.numpy(), np.float32)
    return graph.node(
        "Gather", [table, graph.cast(index, np.int32, f"{node.name}.index")], node.name
    )


def _silu(node: fx.Node, q: QdqWriter) -> str:
    x = q.operand(node.args[0])
    return q.graph.node("Mul", [x, q.graph.node("Sigmoid", [x], f"{node.name}.sigmoid")], node.name)


def _gelu(node: fx.Node, q: QdqWriter) -> str:
    """x / 2 * (1 + erf(x / sqrt 2)), or 1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3))."""
    call, graph = q.context.call(node, Gelu), q.graph
    x = q.operand(call.x)
    if call.approximate == "tanh":
        cube = graph.node("Pow", [x, graph.const("three", 3.0, np.float32)], f"{node.name}.cube")
        cube = graph.node(
            "Mul", [cube, graph.const("c", 0.044715, np.float32)], f"{node.name}.part"
        )
        inner = graph.node("Add", [x, cube], f"{node.name}.sum")
        root = graph.const("root2pi", math.sqrt(2.0 / math.pi), np.float32)
        bend = graph.node(
            "Tanh", [graph.node("Mul", [inner, root], f"{node.name}.x")], f"{node.name}.tanh"
        )
        return _half_times_one_plus(node, q, x, bend)
    root = graph.const("root2", math.sqrt(0.5), np.float32)
    erf = graph.node("Erf", [graph.node("Mul", [x, root], f"{node.name}.x")], f"{node.name}.erf")
    return _half_times_one_plus(node, q, x, erf)


def _half_times_one_plus(node: fx.Node, q: QdqWriter, x: str, bend: str) -> str:
    """x / 2 * (1 + bend), of which both forms of gelu consist."""
    graph = q.graph
    both = graph.node("Add", [bend, graph.const("one", 1.0, np.float32)], f"{node.name}.both")
    half = graph.node("Mul", [x, graph.const("half", 0.5, np.float32)], f"{node.name}.half")
    return graph.node("Mul", [half, both], node.name)


def _softplus(node: fx.Node, q: QdqWriter) -> str:
    """log(1 + exp(beta x)) / beta; torch's threshold changes no float32."""
    call = q.context.call(node, Softplus)
    x, beta = q.operand(call.x), float(call.beta)
    if beta == 1.0:
        return q.graph.node("Softplus", [x], node.name)
    factor = q.graph.const("beta", beta, np.float32)
    x = q.graph.node(
        "Softplus", [q.graph.node("Mul", [x, factor], f"{node.name}.x")], f"{node.name}.soft"
    )
    return q.graph.node("Div", [x, factor], node.name)


def _leaky_relu(node: fx.Node, q: QdqWriter) -> str:
    call = q.context.call(node, LeakyRelu)
    slope = float(call.negative_slope)
    return q.graph.node("LeakyRelu", [q.operand(call.x)], node.name, alpha=slope)


def _elu(node: fx.Node, q: QdqWriter) -> str:
    call = q.context.call(node, Elu)
    return q.graph.node("Elu", [q.operand(call.x)], node.name, alpha=float(call.alpha))


def _rsqrt(node: fx.Node, q: QdqWriter) -> str:
    root = q.graph.node("Sqrt", [q.operand(node.args[0])], f"{node.name}.sqrt")
    return q.graph.node("Reciprocal", [root], node.name)


#: op -> its ONNX op and the attributes of that.
_ONE_OP: dict[str, tuple[str, dict[str, Any]]] = {
    "sigmoid": ("Sigmoid", {}),
    "tanh": ("Tanh", {}),
    "hardswish": ("HardSwish", {}),
    "hardsigmoid": ("HardSigmoid", {"alpha": 1.0 / 6.0, "beta": 0.5}),
    "exp": ("Exp", {}),
    "sqrt": ("Sqrt", {}),
    "abs": ("Abs", {}),
    "sign": ("Sign", {}),
}
#: ONNX ops that are torch's functions of the same name. Only Mish is newer than opset 17.
_STANDARD = {
    op.lower(): op
    for op in (
        "Sin", "Cos", "Tan", "Asin", "Acos", "Atan", "Sinh", "Cosh", "Asinh", "Acosh", "Atanh",
        "Log", "Erf", "Reciprocal", "Floor", "Ceil", "Softsign", "Selu", "Mish",
    )
}  # fmt: skip
_WRITERS: dict[str, Callable[[fx.Node, QdqWriter], str]] = {
    "silu": _silu,
    "gelu": _gelu,
    "elu": _elu,
    "leaky_relu": _leaky_relu,
    "softplus": _softplus,
    "rsqrt": _rsqrt,
}
