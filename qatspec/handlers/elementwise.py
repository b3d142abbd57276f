"""Arithmetic between tensors, and of tensors with constants."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import fx

from qatspec.graph.context import GraphContext
from qatspec.handlers.activation import lookup
from qatspec.program.lowered import Sum, Term
from qatspec.types import Annotation, Float, Observed

if TYPE_CHECKING:
    from qatspec.lower.context import Lowering


def annotate(node: fx.Node, context: GraphContext) -> Annotation:
    """add, sub, mul: both operands quantized, a range of its own (scales need not be equal)."""
    tensors = tuple(i for i, a in enumerate(node.args) if context.is_float_tensor(a))
    return Annotation(output=Observed(), inputs=tensors)


def annotate_div(node: fx.Node, context: GraphContext) -> Annotation:
    """Division by a constant is a multiplication; by a tensor it stays in float."""
    if context.is_float_tensor(node.args[1]):
        return Annotation(output=Float("division by a tensor has no integer form"))
    return Annotation(inputs=(0,))


def annotate_float(node: fx.Node, context: GraphContext) -> Annotation:
    """Operations that no march computes in integers."""
    return Annotation(output=Float(f"{context.op(node)} has no integer form"), inputs=())


def lower_add(node: fx.Node, lowering: Lowering) -> Sum:
    """add, sub: one sum of everything before, rounded once by what closes it."""
    a, b = node.args[0], lowering.context.argument(node, 1, "other")
    sign = -1.0 if lowering.context.op(node) == "sub" else 1.0
    factor = sign * float(node.kwargs.get("alpha", 1))  # type: ignore[arg-type]
    if lowering.is_tensor(a) and lowering.is_tensor(b):
        terms = (*_spread(a, lowering).terms, *_spread(b, lowering).scaled(factor).terms)
        return Sum(terms)
    if lowering.is_tensor(a):
        offset = factor * _number(b, lowering)
        return lookup(lowering, a, lambda x: x + offset)
    offset = _number(a, lowering)
    return lookup(lowering, b, lambda x: offset + factor * x)


def lower_mul(node: fx.Node, lowering: Lowering) -> Sum:
    """Tensor by tensor: a product of integers. By a constant: the same integers, another scale."""
    a, b = node.args[0], lowering.context.argument(node, 1, "other")
    if not lowering.is_tensor(a):
        a, b = b, a
    if not lowering.is_tensor(b):
        return _by_constant(lowering.value(a), lowering.constant(b), lowering)
    x, y = lowering.integer(a), lowering.integer(b)
    if len(lowering.shape(a)) != len(lowering.shape(b)):
        lowering.fail("it multiplies tensors of different rank", "give both the same dims")
    return lowering.emit("mul", (x.value, y.value), x.scale * y.scale)


def lower_div(node: fx.Node, lowering: Lowering) -> Sum:
    """By a constant: the same integers, another scale."""
    divisor = lowering.context.argument(node, 1, "other")
    if node.kwargs.get("rounding_mode") is not None or not lowering.is_tensor(node.args[0]):
        lowering.fail("division with rounding, or of a constant, has no integer form")
    x = lowering.value(node.args[0])
    return _by_constant(x, 1.0 / torch.as_tensor(lowering.constant(divisor)), lowering)


def _by_constant(x: Sum, constant: Any, lowering: Lowering) -> Sum:
    factor = np.asarray(torch.as_tensor(constant), np.float64)
    if not np.isfinite(factor).all() or (factor == 0).any():
        lowering.fail("it multiplies by zero or by no finite number")
    if factor.size == 1:
        return x.scaled(float(factor.reshape(-1)[0]))
    channels = lowering.shape()[1]
    trailing = (1,) * (len(lowering.shape()) - 2)
    if factor.shape not in ((1, channels, *trailing), (channels, *trailing)) or x.bounded:
        lowering.fail(
            f"its constant has shape {factor.shape}", "multiply by a number or by one per channel"
        )
    if any(term.axis not in (None, 1) for term in x.terms):
        lowering.fail("its channels lie along another dim than the constant's")
    per_channel = factor.reshape(-1)
    return Sum(tuple(Term(t.value, t.scale * per_channel, 1) for t in x.terms))


def _number(constant: Any, lowering: Lowering) -> float:
    value = torch.as_tensor(lowering.constant(constant))
    if value.numel() != 1:
        lowering.fail(
            f"it adds a constant tensor of shape {tuple(value.shape)}",
            "add it as the bias of the convolution before",
        )
    return float(value)


def _spread(operand: Any, lowering: Lowering) -> Sum:
    """An operand of a sum: unbounded, and of the result's shape."""
    x, shape = lowering.value(operand), lowering.shape()
    if x.bounded:
        x = Sum((lowering.integer(x),))
    own = lowering.shape(operand)
    if own == shape:
        return x
    if len(own) != 4 or own[:2] != shape[:2] or own[2:] != (1, 1):
        lowering.fail(f"it adds {own} to {shape}", "give both operands the same shape")
    term = lowering.passive(x)
    name = f"{lowering.node.name}.spread"
    return lowering.keep("resize_nearest", term, name=name, size=shape[2:])
