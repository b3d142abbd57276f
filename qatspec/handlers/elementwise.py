"""Arithmetic between tensors, and of tensors with constants."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import fx

from qatspec.graph.context import GraphContext
from qatspec.handlers.activation import lookup
from qatspec.handlers.shape import expand
from qatspec.program.lowered import Sum, Term
from qatspec.types import Annotation, Float, Observed

if TYPE_CHECKING:
    from qatspec.lower.context import Lowering


def annotate(node: fx.Node, context: GraphContext) -> Annotation:
    """add, sub, mul: both operands quantized, a range of its own (scales need not be equal); a
    constant that requantization takes in exactly is no operand."""
    tensors = [i for i, a in enumerate(node.args) if context.is_float_tensor(a)]
    scaling = context.op(node) == "mul"
    kept = (i for i in tensors if not _exact(context, node.args[i], scaling))
    return Annotation(output=Observed(), inputs=tuple(kept))


def _exact(context: GraphContext, operand: Any, scaling: bool) -> bool:
    """One number, or a factor a channel: it moves the result's scale and meets no grid."""
    if not context.is_constant(operand):
        return False
    shape = context.shape(operand)
    others = shape[:-3] + shape[-2:] if len(shape) in (3, 4) else shape
    return math.prod(shape) == 1 or (scaling and math.prod(others) == 1)


def annotate_div(node: fx.Node, context: GraphContext) -> Annotation:
    """Division by a constant is a multiplication; by a tensor it stays in float."""
    divisor = context.argument(node, 1, "other")
    if context.is_float_tensor(divisor) and not context.is_constant(divisor):
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
    first, second = _number(a, lowering), _number(b, lowering)
    if second is not None:
        offset = factor * second
        return lookup(lowering, a, lambda x: x + offset)
    if first is not None:
        return lookup(lowering, b, lambda x: first + factor * x)
    return Sum((*_spread(a, lowering).terms, *_spread(b, lowering).scaled(factor).terms))


def lower_mul(node: fx.Node, lowering: Lowering) -> Sum:
    """Tensor by tensor: a product of integers. By a constant: the same integers, other scales."""
    a, b = node.args[0], lowering.context.argument(node, 1, "other")
    if not lowering.is_tensor(a):
        a, b = b, a
    if not lowering.is_tensor(b):
        return _by_constant(a, torch.as_tensor(lowering.constant(b)), lowering)
    if len(lowering.shape(a)) != len(lowering.shape(b)):
        lowering.fail("it multiplies tensors of different rank", "give both the same dims")
    return _product(lowering.integer(a), lowering.integer(b), lowering)


def lower_div(node: fx.Node, lowering: Lowering) -> Sum:
    """By a constant: the same integers, other scales."""
    a, b = node.args[0], lowering.context.argument(node, 1, "other")
    if node.kwargs.get("rounding_mode") is not None or lowering.is_tensor(b):
        lowering.fail(
            "division with rounding, or by a tensor, has no integer form",
            "multiply by a constant, or move it into `predict`",
        )
    return _by_constant(a, 1.0 / torch.as_tensor(lowering.constant(b)), lowering)


def lower_neg(node: fx.Node, lowering: Lowering) -> Sum:
    """The same integers on a negative scale."""
    return lowering.value(node.args[0]).scaled(-1.0)


def lower_extreme(node: fx.Node, lowering: Lowering) -> Sum:
    """The larger of two integers on the result's grid; the smaller is the larger of negatives."""
    target = lowering.target()
    if target is None:
        lowering.fail(
            "nothing quantizes its result, and an extreme has no int32 tail",
            "set quantize_output: true, or move this op into `predict`",
            "QS703",
        )
    sign = -1.0 if lowering.context.op(node) == "minimum" else 1.0
    layered = (1, *lowering.shape()[1:])
    names = []
    for operand in (node.args[0], lowering.context.argument(node, 1, "other")):
        real = _spread(operand, lowering).scaled(sign)
        x = lowering.quantize(real, target, f"{node.name}.operand").terms[0]
        x = lowering.keep("reshape", x, name=f"{node.name}.layer", shape=layered).terms[0]
        names.append(x.value)
    both = lowering.emit("concat", names, target.scale, name=f"{node.name}.both", axis=1).terms[0]
    return lowering.keep("reduce_max", both, axes=(1,), keepdim=False).scaled(sign)


def _number(operand: Any, lowering: Lowering) -> float | None:
    """A Python number or a constant of one element; None for tensors."""
    if lowering.is_tensor(operand):
        return None
    value = torch.as_tensor(lowering.constant(operand))
    return float(value) if value.numel() == 1 else None


def _by_constant(operand: Any, constant: torch.Tensor, lowering: Lowering) -> Sum:
    factor = np.asarray(constant, np.float64)
    if not np.isfinite(factor).all():
        lowering.fail("it multiplies by no finite number")
    x = lowering.value(operand)
    if x.bounded:
        x = Sum((lowering.integer(x),))
    own, shape = lowering.shape(operand), lowering.shape()
    dims = (1,) * (len(shape) - factor.ndim) + factor.shape
    aligned, along = factor.reshape(dims), [axis for axis, size in enumerate(dims) if size > 1]
    axes = {term.axis for term in x.terms if term.axis is not None}
    if own == shape and len(along) <= 1 and 0 not in along and axes <= set(along or axes):
        axis, scales = (along[0] if along else None), factor.reshape(-1)
        return Sum(tuple(Term(t.value, t.scale * scales, t.axis or axis) for t in x.terms))
    if len(own) != len(shape):
        lowering.fail("it multiplies tensors of different rank", "give both the same dims")
    y = lowering.tensor(torch.from_numpy(aligned))
    return _product(lowering.integer(x), y.terms[0], lowering)


def _product(x: Term, y: Term, lowering: Lowering) -> Sum:
    return lowering.emit("mul", (x.value, y.value), x.scale * y.scale)


def _spread(operand: Any, lowering: Lowering) -> Sum:
    """An operand of a sum: unbounded, and of the result's shape."""
    shape = lowering.shape()
    constant = lowering.constants.get(operand)
    if constant is not None:
        value = constant.value
        value = value.reshape((1,) * (len(shape) - value.ndim) + value.shape)
        own = (shape[0], *value.shape[1:])
        x = lowering.tensor(value, constant.target)
    else:
        own, x = lowering.shape(operand), lowering.value(operand)
    if x.bounded:
        x = Sum((lowering.integer(x),))
    if own == shape:
        return x
    if len(own) != len(shape):
        lowering.fail(f"it joins {own} and {shape}", "give both operands the same dims")
    term, name = lowering.passive(x), f"{lowering.node.name}.spread"
    if len(own) == 4:  # height and width at once
        size = shape[2:]
        term = lowering.keep("resize_nearest", term, name=name, size=size).terms[0]
        own = (*own[:2], *size)
    return expand(lowering, term, own, shape)
