"""Activation functions that stand alone (those behind a conv are fused into its group)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import fx

from qatspec.graph.context import GraphContext
from qatspec.handlers.discarded import may_pass
from qatspec.ir import RANGE
from qatspec.program.lowered import Sum, Term
from qatspec.types import Annotation, Float, Observed, Shared

if TYPE_CHECKING:
    from qatspec.lower.context import Lowering
    from qatspec.lower.operands import Target


def annotate_relu(node: fx.Node, context: GraphContext) -> Annotation:
    """Zero is on every grid, so clamping at zero keeps the input's scale exactly. Behind padding
    by a constant, a range of its own."""
    own = may_pass(node, context)
    return Annotation(output=Observed() if own else Shared())


def annotate_clamp(node: fx.Node, context: GraphContext) -> Annotation:
    """relu6, hardtanh, clamp: the bounds are rarely on the input's grid: a range of its own."""
    return Annotation(output=Observed())


def annotate_lut(node: fx.Node, context: GraphContext) -> Annotation:
    """Functions of one number, a table on the chip: a range of its own."""
    return Annotation(output=Observed())


def annotate_pow(node: fx.Node, context: GraphContext) -> Annotation:
    """A constant exponent makes it a function of one number."""
    if context.is_float_tensor(context.argument(node, 1, "exponent")):
        return Annotation(output=Float("a power of two tensors has no integer form"))
    return Annotation(output=Observed())


def lower_relu(node: fx.Node, lowering: Lowering) -> Sum:
    """A bound on what comes before; the requantization that closes the group clamps."""
    return lowering.value(node.args[0]).clamped(0.0, math.inf)


def lower_clamp(node: fx.Node, lowering: Lowering) -> Sum:
    """relu6, hardtanh, clamp: bounds; the requantization that closes the group clamps."""
    setting, op = lowering.context.setting, lowering.context.op(node)
    low, high = 0.0, 6.0
    if op == "hardtanh":
        low, high = setting(node, 1, "min_val", -1.0), setting(node, 2, "max_val", 1.0)
    elif op == "clamp":
        low, high = setting(node, 1, "min"), setting(node, 2, "max")
        low = -math.inf if low is None else lowering.constant(low)
        high = math.inf if high is None else lowering.constant(high)
    if not all(isinstance(bound, (int, float)) for bound in (low, high)):
        lowering.fail("its bounds are tensors", "clamp by numbers")
    return lowering.value(node.args[0]).clamped(float(low), float(high))


def lower_lut(node: fx.Node, lowering: Lowering) -> Sum:
    """A table of the function over every input integer."""
    setting, op = lowering.context.setting, lowering.context.op(node)
    function = _FUNCTIONS.get(op or "")
    if op == "leaky_relu":
        slope = setting(node, 1, "negative_slope", 0.01)
        return lookup(lowering, node.args[0], lambda x: np.where(x < 0, slope * x, x))
    if op == "softplus":
        beta = setting(node, 1, "beta", 1.0)
        return lookup(lowering, node.args[0], lambda x: np.logaddexp(0.0, beta * x) / beta)
    if op == "elu":
        alpha = setting(node, 1, "alpha", 1.0)
        return lookup(
            lowering, node.args[0], lambda x: np.where(x < 0, alpha * np.expm1(np.minimum(x, 0)), x)
        )
    if op == "gelu" and setting(node, 1, "approximate", "none") == "tanh":
        function = _gelu_tanh
    if function is None:
        lowering.fail(f"there is no table for {op}")
    return lookup(lowering, node.args[0], function)


def lower_pow(node: fx.Node, lowering: Lowering) -> Sum:
    """A table of the power."""
    base, exponent = node.args[0], lowering.context.argument(node, 1, "exponent")
    if not lowering.is_tensor(base):
        lowering.fail("its exponent is a tensor", "write exp of a product")
    power = float(lowering.constant(exponent))
    return lookup(lowering, base, lambda x: x**power)


def lookup(
    lowering: Lowering,
    operand: Any,
    function: Callable[[np.ndarray], np.ndarray],
    target: Target | None = None,
) -> Sum:
    """function(operand) as a table, correctly rounded (half to even) from float64; what is no
    number saturates (1 / 0), or is zero (the root of a negative).

    target: the grid of its results; default: that of the fake-quant behind this node."""
    x, target = lowering.integer(operand), target or lowering.target()
    if target is None:
        lowering.fail(
            "nothing quantizes its result, and a table has no int32 tail",
            "set quantize_output: true, or move this op into `predict`",
            "QS703",
        )
    low, high = RANGE[lowering.dtype(x)]
    with np.errstate(all="ignore"):
        real = function(np.arange(low, high + 1, dtype=np.float64) * x.step)
        real = np.nan_to_num(real / target.scale, nan=0.0)
    levels = np.clip(np.rint(real), *RANGE[target.dtype])
    table = lowering.const("table", target.dtype, levels)
    return lowering.emit("lut", (x.value, table), target.scale, dtype=target.dtype)


def lower_prelu(node: fx.Node, lowering: Lowering) -> Sum:
    """max(x, 0) + slope * min(x, 0): two clamps and one rounding at the end."""
    x = lowering.integer(node.args[0])
    module: Any = lowering.context.module(node)
    weight = lowering.constant(node.args[1]) if module is None else module.weight
    slope = weight.detach().numpy().astype(np.float64).reshape(-1)
    low, high = RANGE[lowering.dtype(x)]
    above = lowering.keep("clamp", x, name=f"{node.name}.above", low=0, high=high)
    below = lowering.keep("clamp", x, name=f"{node.name}.below", low=low, high=0)
    axis = None if slope.size == 1 else 1
    return Sum((*above.terms, Term(below.terms[0].value, x.step * slope, axis)))


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 0.5 * (1.0 + np.tanh(0.5 * x))


def _hardsigmoid(x: np.ndarray) -> np.ndarray:
    return np.clip(x + 3.0, 0.0, 6.0) / 6.0


def _gelu(x: np.ndarray) -> np.ndarray:
    return 0.5 * x * (1.0 + np.array([math.erf(v / math.sqrt(2.0)) for v in x]))


def _gelu_tanh(x: np.ndarray) -> np.ndarray:
    return 0.5 * x * (1.0 + np.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x**3)))


_FUNCTIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "sigmoid": _sigmoid,
    "tanh": np.tanh,
    "silu": lambda x: x * _sigmoid(x),
    "gelu": _gelu,
    "hardswish": lambda x: x * _hardsigmoid(x),
    "hardsigmoid": _hardsigmoid,
    "exp": np.exp,
    "sqrt": np.sqrt,
    "rsqrt": lambda x: 1.0 / np.sqrt(x),
    "abs": np.abs,
    "sign": np.sign,
}
