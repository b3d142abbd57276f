"""Arithmetic between tensors, and of tensors with constants."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import fx

from qatspec.graph.context import GraphContext
from qatspec.handlers.activation import lookup
from qatspec.handlers.quotient import quotient
from qatspec.handlers.shape import expand
from qatspec.ir import RANGE
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
    """Division by a constant is a multiplication; by a tensor both need a grid."""
    if node.kwargs.get("rounding_mode") is not None:
        return Annotation(output=Float("division that rounds has no integer form"), inputs=())
    operands = (node.args[0], context.argument(node, 1, "other"))
    tensors = (context.is_float_tensor(x) and not context.is_constant(x) for x in operands)
    return Annotation(inputs=tuple(i for i, is_tensor in enumerate(tensors) if is_tensor))


def annotate_matmul(node: fx.Node, context: GraphContext) -> Annotation:
    """Both factors need a grid, and the product has a range of its own."""
    return Annotation(output=Observed(), inputs=(0, 1))


def annotate_float(node: fx.Node, context: GraphContext) -> Annotation:
    """Operations that no march computes in integers."""
    return Annotation(output=Float(f"{context.op(node)} has no integer form"), inputs=())


def lower_add(node: fx.Node, lowering: Lowering) -> Sum:
    """add, sub: one sum of everything before, rounded once by what closes it."""
    a, b = node.args[0], lowering.context.argument(node, 1, "other")
    sign = -1.0 if lowering.context.op(node) == "sub" else 1.0
    factor = sign * float(node.kwargs.get("alpha", 1))  # type: ignore[arg-type]
    first, second = _number(a, lowering), _number(b, lowering)
    counted = not lowering.context.is_float_tensor(node)  # whole numbers: no grid to look up
    if second is not None and not counted:
        offset = factor * second
        return lookup(lowering, a, lambda x: x + offset)
    if first is not None and not counted:
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
    """By a constant: the same integers, other scales. Of a number by a tensor: a table. Of two
    tensors: a quotient of integers."""
    a, b = node.args[0], lowering.context.argument(node, 1, "other")
    if node.kwargs.get("rounding_mode") is not None:
        lowering.fail(
            "division that rounds has no integer form",
            "multiply by a constant, or move it into `predict`",
        )
    if not lowering.is_tensor(b):
        return _by_constant(a, 1.0 / torch.as_tensor(lowering.constant(b)), lowering)
    number = _number(a, lowering)
    if number is not None:
        return lookup(lowering, b, lambda x: number / x)
    if len(lowering.shape(a)) != len(lowering.shape(b)):
        lowering.fail("it divides tensors of different rank", "give both the same dims")
    return quotient(lowering, lowering.integer(a), lowering.integer(b))


def lower_matmul(node: fx.Node, lowering: Lowering) -> Sum:
    """Products of two activations' rows and columns; a constant matrix is a linear layer."""
    a = node.args[0]
    b: Any = next((node.kwargs[k] for k in ("other", "mat2") if k in node.kwargs), None)
    b = node.args[1] if b is None else b
    known = lowering.constants.get(b)
    if known is not None and known.value.ndim == 2 and known.target is not None:
        x, scale = lowering.integer(a), np.float32(known.target.scale)
        levels = np.clip(np.rint(known.value.numpy() / scale), *RANGE[known.target.dtype])
        weight = lowering.const("weight", known.target.dtype, levels.T)
        return lowering.emit("linear", (x.value, weight), x.scale * float(scale))
    ranks = {len(lowering.shape(operand)) for operand in (a, b)}
    if len(ranks) != 1 or ranks == {1}:
        lowering.fail("it multiplies tensors of different rank", "give both the same dims")
    x, y = lowering.integer(a), lowering.integer(b)
    return lowering.emit("matmul", (x.value, y.value), x.scale * y.scale)


def lower_neg(node: fx.Node, lowering: Lowering) -> Sum:
    """The same integers on a negative scale."""
    return lowering.value(node.args[0]).scaled(-1.0)


def lower_extreme(node: fx.Node, lowering: Lowering) -> Sum:
    """The larger of two integers on the result's grid; the smaller is the larger of negatives. A
    number is a bound."""
    target = lowering.target()
    if target is None:
        lowering.fail(
            "nothing quantizes its result, and an extreme has no int32 tail",
            "set quantize_output: true, or move this op into `predict`",
            "QS703",
        )
    largest = lowering.context.op(node) == "maximum"
    operands = (node.args[0], lowering.context.argument(node, 1, "other"))
    for x, bound in (operands, operands[::-1]):
        number = _number(bound, lowering)
        if number is not None:
            bounds = (number, math.inf) if largest else (-math.inf, number)
            return _spread(x, lowering).clamped(*bounds)
    sign = 1.0 if largest else -1.0
    layered = (1, *lowering.shape()[1:])
    names = []
    for operand in operands:
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
    batch = lowering.layout(x.terms[0]).batch
    if own == shape and len(along) <= 1 and batch not in along and axes <= set(along or axes):
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
    if not isinstance(operand, fx.Node):  # a number
        return lowering.tensor(torch.full(shape, operand))
    x, constant = lowering.value(operand), lowering.constants.get(operand)
    own = lowering.shape(operand)
    batch = lowering.layout(x.terms[0]).batch
    if constant is not None:  # it is of one image, and repeats for each
        aligned = (1,) * (len(shape) - len(own)) + own
        own = (*aligned[:batch], shape[batch], *aligned[batch + 1 :])
    if x.bounded:
        x = Sum((lowering.integer(x),))
    if own == shape:
        return x
    if len(own) != len(shape):
        lowering.fail(f"it joins {own} and {shape}", "give both operands the same dims")
    term, name = lowering.passive(x), f"{lowering.node.name}.spread"
    if len(own) == 4 and lowering.layout(term).plain:  # height and width at once
        size = shape[2:]
        term = lowering.keep("resize_nearest", term, name=name, size=size).terms[0]
        own = (*own[:2], *size)
    return expand(lowering, term, own, shape)
