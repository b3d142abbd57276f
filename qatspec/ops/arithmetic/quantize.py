"""Arithmetic between tensors, and of tensors with constants, in integers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import fx

from qatspec.graph.context import GraphContext
from qatspec.lowering import (
    Lowering,
    PendingSum,
    ScaledInts,
    expanded,
    lookup,
    pending,
    quotient,
)
from qatspec.ops.arithmetic.calls import Binary
from qatspec.types import Annotation, Float, Observed


def annotate(node: fx.Node, context: GraphContext) -> Annotation:
    """Quantize both operands (their scales may differ) and the result. A constant that
    requantization multiplies or adds exactly needs no grid."""
    tensors = [i for i, a in enumerate(node.args) if context.is_float_tensor(a)]
    scaling = context.op(node) == "mul"
    kept = (i for i in tensors if not _exact(context, node.args[i], scaling))
    return Annotation(output=Observed(), inputs=tuple(kept))


def _exact(context: GraphContext, operand: Any, scaling: bool) -> bool:
    """Return whether an operand goes into the result's scale or requantization as it is, without a
    grid of its own: a constant of one number, or a constant factor for each channel."""
    if not context.is_constant(operand):
        return False
    shape = context.shape(operand)
    others = shape[:-3] + shape[-2:] if len(shape) in (3, 4) else shape
    return math.prod(shape) == 1 or (scaling and math.prod(others) == 1)


def annotate_div(node: fx.Node, context: GraphContext) -> Annotation:
    """Division by a constant is a multiplication; by a tensor both need a grid."""
    call = context.call(node, Binary)
    if call.rounding_mode is not None:
        return Annotation(output=Float("division that rounds has no integer form"), inputs=())
    operands = (call.x, call.other)
    tensors = (context.is_float_tensor(x) and not context.is_constant(x) for x in operands)
    return Annotation(inputs=tuple(i for i, is_tensor in enumerate(tensors) if is_tensor))


def annotate_neg(node: fx.Node, context: GraphContext) -> Annotation:
    """A range of its own: the lowest integer has no negative."""
    return Annotation(output=Observed())


def lower_add(node: fx.Node, lowering: Lowering) -> PendingSum | ScaledInts:
    """add, sub: one sum of everything before, rounded once by what closes it."""
    call = lowering.context.call(node, Binary)
    factor = float(call.alpha) * (-1.0 if lowering.context.op(node) == "sub" else 1.0)
    first, second = _number(call.x, lowering), _number(call.other, lowering)
    if lowering.context.is_float_tensor(node):  # integers have no grid to look up
        if second is not None:
            offset = factor * second
            return lookup(lowering, call.x, lambda x: x + offset)
        if first is not None:
            return lookup(lowering, call.other, lambda x: first + factor * x)
    terms = (_spread(call.x, lowering), _spread(call.other, lowering).scaled(factor))
    return PendingSum(tuple(term for part in terms for term in part.terms))


def lower_mul(node: fx.Node, lowering: Lowering) -> PendingSum | ScaledInts:
    """Tensor by tensor: a product of integers. By a constant: the same integers, other scales."""
    call = lowering.context.call(node, Binary)
    a, b = call.x, call.other
    if not lowering.is_tensor(a):
        a, b = b, a
    if not lowering.is_tensor(b):
        return _by_constant(a, torch.as_tensor(lowering.constant(b)), lowering)
    if len(lowering.shape(a)) != len(lowering.shape(b)):
        lowering.fail("it multiplies tensors of different rank", "give both the same dims")
    return _product(lowering.small_integers(a), lowering.small_integers(b), lowering)


def lower_div(node: fx.Node, lowering: Lowering) -> PendingSum | ScaledInts:
    """By a constant: the same integers, other scales. Of a number by a tensor: a table. Of two
    tensors: a quotient of integers."""
    call = lowering.context.call(node, Binary)
    a, b = call.x, call.other
    if call.rounding_mode is not None:
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
    return quotient(lowering, lowering.small_integers(a), lowering.small_integers(b))


def lower_neg(node: fx.Node, lowering: Lowering) -> PendingSum:
    """The same integers on a negative scale."""
    return lowering.value(node.args[0]).scaled(-1.0)


def lower_extreme(node: fx.Node, lowering: Lowering) -> PendingSum | ScaledInts:
    """The larger of two integers on the result's grid; the smaller is the larger of negatives. A
    number is a bound."""
    grid = lowering.required_grid("an extreme")
    call = lowering.context.call(node, Binary)
    largest = lowering.context.op(node) == "maximum"
    operands = (call.x, call.other)
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
        y = lowering.quantize(real, grid, f"{node.name}.operand")
        y = lowering.emit_same_scale("reshape", y, name=f"{node.name}.layer", shape=layered)
        names.append(y.value)
    both = lowering.emit("concat", names, grid.scale, name=f"{node.name}.both", axis=1)
    return lowering.emit_same_scale("reduce_max", both, axes=(1,), keepdim=False).scaled(sign)


def _number(operand: Any, lowering: Lowering) -> float | None:
    """A Python number or a constant of one element; None for tensors."""
    if lowering.is_tensor(operand):
        return None
    value = torch.as_tensor(lowering.constant(operand))
    return float(value) if value.numel() == 1 else None


def _by_constant(
    operand: Any, constant: torch.Tensor, lowering: Lowering
) -> PendingSum | ScaledInts:
    factor = np.asarray(constant, np.float64)
    if not np.isfinite(factor).all():
        lowering.fail("it multiplies by no finite number")
    x = lowering.value(operand)
    if x.bounded:
        x = pending(lowering.small_integers(x))
    operand_shape, shape = lowering.shape(operand), lowering.shape()
    dims = (1,) * (len(shape) - factor.ndim) + factor.shape
    aligned, along = factor.reshape(dims), [axis for axis, size in enumerate(dims) if size > 1]
    axes = {term.axis for term in x.terms if term.axis is not None}
    batch = lowering.batch_dim(x).batch
    if (
        operand_shape == shape
        and len(along) <= 1
        and batch not in along
        and axes <= set(along or axes)
        and not _has_signs(factor, along, lowering)
    ):
        axis, scales = (along[0] if along else None), factor.reshape(-1)
        return PendingSum(
            tuple(ScaledInts(t.value, t.scale * scales, t.axis or axis) for t in x.terms)
        )
    if len(operand_shape) != len(shape):
        lowering.fail("it multiplies tensors of different rank", "give both the same dims")
    y = lowering.tensor(torch.from_numpy(aligned))
    return _product(lowering.small_integers(x), y, lowering)


def _has_signs(factor: np.ndarray, along: list[int], lowering: Lowering) -> bool:
    """Whether the factors along a dim other than the channels need multipliers below 0, and the
    march's form has none: a product with a quantized tensor then takes their place."""
    single = lowering.builder.arithmetic.form == "single"
    channels = [1] if len(lowering.shape()) == 4 else None
    return not single and bool(along) and along != channels and bool((factor < 0).any())


def _product(x: ScaledInts, y: ScaledInts, lowering: Lowering) -> ScaledInts:
    return lowering.emit("mul", (x.value, y.value), x.scale * y.scale)


def _spread(operand: Any, lowering: Lowering) -> PendingSum:
    """An operand of a sum: unbounded, and of the result's shape."""
    shape = lowering.shape()
    if not isinstance(operand, fx.Node):  # a number
        return pending(lowering.tensor(torch.full(shape, operand)))
    x, constant = lowering.value(operand), lowering.constants.get(operand)
    operand_shape = lowering.shape(operand)
    batch = lowering.batch_dim(x).batch
    if constant is not None:  # it is of one image, and repeats for each
        aligned = (1,) * (len(shape) - len(operand_shape)) + operand_shape
        operand_shape = (*aligned[:batch], shape[batch], *aligned[batch + 1 :])
    if x.bounded:
        x = pending(lowering.small_integers(x))
    if operand_shape == shape:
        return x
    if len(operand_shape) != len(shape):
        lowering.fail(f"it joins {operand_shape} and {shape}", "give both operands the same dims")
    term = lowering.single_term(x)
    if len(operand_shape) == 4 and lowering.batch_dim(term).is_first:  # height and width at once
        size, name = shape[2:], f"{lowering.node.name}.spread"
        term = lowering.emit_same_scale("resize_nearest", term, name=name, size=size)
        operand_shape = (*operand_shape[:2], *size)
    return pending(expanded(lowering, term, operand_shape, shape))
