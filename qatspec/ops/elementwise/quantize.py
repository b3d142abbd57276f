"""Functions of one number as tables over every integer."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import fx

from qatspec.graph.context import GraphContext
from qatspec.ir import RANGE
from qatspec.lowering import Lowering, PendingSum, ScaledInts, lookup
from qatspec.ops.elementwise.calls import Elu, Gelu, LeakyRelu, Pow, Prelu, Softplus
from qatspec.quant.elementwise import values_of
from qatspec.types import Annotation, Float, Observed

Function = Callable[[np.ndarray], np.ndarray]


def annotate(node: fx.Node, context: GraphContext) -> Annotation:
    """A range of its own."""
    return Annotation(output=Observed())


def annotate_pow(node: fx.Node, context: GraphContext) -> Annotation:
    """A constant exponent makes it a function of one number."""
    if context.is_float_tensor(context.call(node, Pow).exponent):
        return Annotation(output=Float("a power of two tensors has no integer form"))
    return Annotation(output=Observed())


def lower(node: fx.Node, lowering: Lowering) -> ScaledInts:
    """A table of the function over every input integer."""
    return lookup(lowering, node.args[0], _function(node, lowering.context))


def _function(node: fx.Node, context: GraphContext) -> Function:
    """What the op computes, from float64 to float64."""
    op = str(context.op(node))
    if op == "leaky_relu":
        slope = context.call(node, LeakyRelu).negative_slope
        return lambda x: np.where(x < 0, slope * x, x)
    if op == "softplus":
        beta = context.call(node, Softplus).beta
        return lambda x: np.logaddexp(0.0, beta * x) / beta
    if op == "elu":
        alpha = context.call(node, Elu).alpha
        return lambda x: np.where(x < 0, alpha * np.expm1(np.minimum(x, 0)), x)
    if op == "gelu":
        return _gelu_tanh if context.call(node, Gelu).approximate == "tanh" else _gelu
    return _FUNCTIONS[op]


def lower_pow(node: fx.Node, lowering: Lowering) -> ScaledInts:
    """A table of the power."""
    call = lowering.context.call(node, Pow)
    if not lowering.is_tensor(call.x):
        lowering.fail("its exponent is a tensor", "write exp of a product")
    power = float(lowering.constant(call.exponent))
    return lookup(lowering, call.x, lambda x: x**power)


def lower_prelu(node: fx.Node, lowering: Lowering) -> PendingSum:
    """max(x, 0) + slope * min(x, 0): two clamps and one rounding at the end."""
    call = lowering.context.call(node, Prelu)
    x = lowering.small_integers(call.x)
    weight = lowering.constant(call.weight)
    slope = weight.detach().numpy().astype(np.float64).reshape(-1)
    low, high = RANGE[lowering.dtype(x)]
    above = lowering.emit_same_scale("clamp", x, name=f"{node.name}.above", low=0, high=high)
    below = lowering.emit_same_scale("clamp", x, name=f"{node.name}.below", low=low, high=0)
    axis = None if slope.size == 1 else 1
    return PendingSum((above, ScaledInts(below.value, x.step * slope, axis)))


def lower_function(node: fx.Node, lowering: Lowering) -> ScaledInts:
    """A table of whatever function the module computes, in float32 as the fake-quant model does:
    it may jump."""
    module = lowering.context.module(node)
    assert module is not None
    constants = [lowering.constant(n) for n in node.args[1:]]
    shape = lowering.shape(node.args[0])

    def function(x: np.ndarray) -> np.ndarray:
        y = values_of(module, constants, shape, torch.from_numpy(x).float())
        return y.double().numpy()

    return lookup(lowering, node.args[0], function)


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 0.5 * (1.0 + np.tanh(0.5 * x))


def _hardsigmoid(x: np.ndarray) -> np.ndarray:
    return np.clip(x + 3.0, 0.0, 6.0) / 6.0


def _gelu(x: np.ndarray) -> np.ndarray:
    return 0.5 * x * (1.0 + np.array([math.erf(v / math.sqrt(2.0)) for v in x]))


def _gelu_tanh(x: np.ndarray) -> np.ndarray:
    return 0.5 * x * (1.0 + np.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x**3)))


_FUNCTIONS: dict[str, Function] = {
    "sigmoid": _sigmoid,
    "tanh": np.tanh,
    "silu": lambda x: x * _sigmoid(x),
    "hardswish": lambda x: x * _hardsigmoid(x),
    "hardsigmoid": _hardsigmoid,
    "exp": np.exp,
    "sqrt": np.sqrt,
    "rsqrt": lambda x: 1.0 / np.sqrt(x),
    "abs": np.abs,
    "sign": np.sign,
}
