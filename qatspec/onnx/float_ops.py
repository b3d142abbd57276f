"""Float ONNX forms of the canonical ops, for the Q/DQ file: `WRITE[op](writer, node)`. Arithmetic,
functions of one number and norms are here."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import fx, nn

from qatspec.onnx import float_moves, float_pools

if TYPE_CHECKING:
    from qatspec.onnx.qdq import QdqWriter

Write = Callable[["QdqWriter", fx.Node], Any]


def _binary(op: str, second: str = "other") -> Write:
    """second: the name of torch's second operand."""

    def write(q: QdqWriter, node: fx.Node) -> str:
        b = q.context.argument(node, 1, second)
        names = [q.operand(node.args[0]), q.operand(b)]
        alpha = node.kwargs.get("alpha", 1)
        if alpha != 1:
            factor = q.w.const("alpha", alpha, np.float32)
            names[1] = q.w.node("Mul", [names[1], factor], f"{node.name}.alpha")
        return q.w.node(op, names, node.name)

    return write


def _unary(op: str, **attrs: Any) -> Write:
    return lambda q, node: q.w.node(op, [q.operand(node.args[0])], node.name, **attrs)


def _clip(q: QdqWriter, node: fx.Node) -> str:
    setting, op = q.context.setting, q.context.op(node)
    low, high = 0.0, 6.0  # relu6
    if op == "hardtanh":
        low, high = setting(node, 1, "min_val", -1.0), setting(node, 2, "max_val", 1.0)
    elif op == "clamp":
        low, high = setting(node, 1, "min"), setting(node, 2, "max")
    bounds = ["" if b is None else q.w.const("bound", b, np.float32) for b in (low, high)]
    return q.w.node("Clip", [q.operand(node.args[0]), *bounds], node.name)


def _silu(q: QdqWriter, node: fx.Node) -> str:
    x = q.operand(node.args[0])
    return q.w.node("Mul", [x, q.w.node("Sigmoid", [x], f"{node.name}.sigmoid")], node.name)


def _gelu(q: QdqWriter, node: fx.Node) -> str:
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


def _softplus(q: QdqWriter, node: fx.Node) -> str:
    if q.context.setting(node, 1, "beta", 1.0) != 1:
        q.fail(node, "softplus with another beta than 1")
    return q.w.node("Softplus", [q.operand(node.args[0])], node.name)


def _leaky_relu(q: QdqWriter, node: fx.Node) -> str:
    slope = float(q.context.setting(node, 1, "negative_slope", 0.01))
    return q.w.node("LeakyRelu", [q.operand(node.args[0])], node.name, alpha=slope)


def _elu(q: QdqWriter, node: fx.Node) -> str:
    alpha = float(q.context.setting(node, 1, "alpha", 1.0))
    return q.w.node("Elu", [q.operand(node.args[0])], node.name, alpha=alpha)


def _prelu(q: QdqWriter, node: fx.Node) -> str:
    module: Any = q.context.module(node)
    slope = q.tensor(node.args[1]) if module is None else module.weight
    array = slope.detach().numpy().reshape(-1, *[1] * (len(q.context.shape(node)) - 2))
    name = q.w.const(f"{node.name}.slope", array, np.float32)
    return q.w.node("PRelu", [q.operand(node.args[0]), name], node.name)


def _softmax(q: QdqWriter, node: fx.Node) -> str:
    axis = int(q.context.setting(node, 1, "dim", -1))
    return q.w.node("Softmax", [q.operand(node.args[0])], node.name, axis=axis)


def _rsqrt(q: QdqWriter, node: fx.Node) -> str:
    root = q.w.node("Sqrt", [q.operand(node.args[0])], f"{node.name}.sqrt")
    return q.w.node("Reciprocal", [root], node.name)


# -- norms -------------------------------------------------------------------------------------


def _batch_norm(q: QdqWriter, node: fx.Node) -> str:
    """By the running statistics, which are the module's own or come behind x."""
    norm: Any = q.context.module(node)
    names = ("running_mean", "running_var", "weight", "bias")
    given: list[Any] = [getattr(norm, name, None) for name in names]
    if len(node.args) > 1:
        given = [None if a is None else q.tensor(a) for a in (*node.args[1:], None, None)][:4]
    mean, variance, gamma, beta = (None if t is None else t.detach().numpy() for t in given)
    if mean is None or variance is None:
        q.fail(node, "a batch norm without running statistics")
    gamma = np.ones(mean.size) if gamma is None else gamma
    beta = np.zeros(mean.size) if beta is None else beta
    arrays = {"weight": gamma, "bias": beta, "running_mean": mean, "running_var": variance}
    constants = [q.w.const(f"{node.target}.{k}", a, np.float32) for k, a in arrays.items()]
    x = q.operand(node.args[0])
    return q.w.node("BatchNormalization", [x, *constants], node.name, epsilon=norm.eps)


def _layer_norm(q: QdqWriter, node: fx.Node) -> str:
    norm = q.context.module(node)
    if not isinstance(norm, nn.LayerNorm):
        q.fail(node, "a functional layer_norm")
    size = norm.normalized_shape
    weight = np.ones(size) if norm.weight is None else norm.weight.detach().numpy()
    bias = np.zeros(size) if norm.bias is None else norm.bias.detach().numpy()
    arrays = (("weight", weight), ("bias", bias))
    names = [q.w.const(f"{node.target}.{k}", a, np.float32) for k, a in arrays]
    return q.w.node(
        "LayerNormalization",
        [q.operand(node.args[0]), *names],
        node.name,
        axis=-len(size),
        epsilon=norm.eps,
    )


WRITE: dict[str, Write] = {
    "add": _binary("Add"),
    "sub": _binary("Sub"),
    "mul": _binary("Mul"),
    "div": _binary("Div"),
    "pow": _binary("Pow", "exponent"),
    "matmul": _binary("MatMul"),
    "maximum": _binary("Max"),
    "minimum": _binary("Min"),
    "neg": _unary("Neg"),
    "abs": _unary("Abs"),
    "exp": _unary("Exp"),
    "sqrt": _unary("Sqrt"),
    "rsqrt": _rsqrt,
    "relu": _unary("Relu"),
    "relu6": _clip,
    "hardtanh": _clip,
    "clamp": _clip,
    "sigmoid": _unary("Sigmoid"),
    "tanh": _unary("Tanh"),
    "silu": _silu,
    "gelu": _gelu,
    "elu": _elu,
    "hardswish": _unary("HardSwish"),
    "hardsigmoid": _unary("HardSigmoid", alpha=1.0 / 6.0, beta=0.5),
    "leaky_relu": _leaky_relu,
    "softplus": _softplus,
    "prelu": _prelu,
    "softmax": _softmax,
    **{f"max_pool{n}d": float_pools.max_pool for n in (1, 2, 3)},
    **{f"avg_pool{n}d": float_pools.average_pool for n in (1, 2, 3)},
    **{f"adaptive_avg_pool{n}d": float_pools.adaptive("Average") for n in (1, 2, 3)},
    **{f"adaptive_max_pool{n}d": float_pools.adaptive("Max") for n in (1, 2, 3)},
    "mean": float_pools.reduction("ReduceMean"),
    "sum": float_pools.reduction("ReduceSum"),
    "max": float_pools.reduction("ReduceMax"),
    "batch_norm": _batch_norm,
    "batch_norm1d": _batch_norm,
    "batch_norm2d": _batch_norm,
    "batch_norm3d": _batch_norm,
    "layer_norm": _layer_norm,
    "interpolate": float_pools.interpolate,
    "pad": float_pools.pad,
    "cat": float_moves.concat,
    "stack": float_moves.concat,
    "chunk": float_moves.split,
    "split": float_moves.split,
    "unbind": float_moves.split,
    "reshape": float_moves.reshape,
    "flatten": float_moves.reshape,
    "squeeze": float_moves.reshape,
    "unsqueeze": float_moves.reshape,
    "permute": float_moves.transpose,
    "transpose": float_moves.transpose,
    "getitem": float_moves.getitem,
    "expand": float_moves.expand,
    "pixel_shuffle": float_moves.shuffle,
    "pixel_unshuffle": float_moves.shuffle,
    "channel_shuffle": float_moves.shuffle,
    "contiguous": float_moves.same,
    "identity": float_moves.same,
    "dropout": float_moves.same,
}
