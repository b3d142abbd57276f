"""The constants of a requantization in the form of the march.

In the forms of other runtimes a requantization is what their kernels compute from the float32
scales of their tensors: of a convolution, its operand's, its weight's and its result's. So the
multipliers are made here from such scales, in the float32 or float64 steps of these kernels.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from qatspec.ir import RANGE, DType
from qatspec.kinds import BYTES, Trait, has
from qatspec.lowering.operands import Grid
from qatspec.lowering.pending import PendingSum, ScaledInts, pending
from qatspec.program import forms
from qatspec.program.requantize import multipliers

if TYPE_CHECKING:
    from qatspec.ir import Op
    from qatspec.lowering.lowering import Lowering

Constants = tuple[list[np.ndarray], np.ndarray, dict[str, Any]]


def computable(lowering: Lowering, x: PendingSum, grid: Grid) -> PendingSum:
    """The sum as kernels of the march's form can compute it: of one term, or of two quantized
    tensors. A factor of a tensor, or one for each channel, becomes a rounding of its own on a grid
    that holds all its numbers; a negative one a convolution with weights of -1; of three terms and
    more, the first two are rounded on `grid` and then added to the next.

    Raises Unlowerable for sums of accumulators, and for their negatives."""
    form = lowering.builder.arithmetic.form
    if form == "single" or grid.dtype not in BYTES:
        return x
    signs = [int(np.sign(term.scale).min()) for term in x.terms]
    if form == "float32" and sorted(signs) == [-1, 1] and _are_moves(lowering, x):
        return x  # a difference has an operator of its own
    terms = [_positive(lowering, term) for term in x.terms]
    if len(terms) > 1:
        terms = [_on_own_grid(lowering, term) for term in terms]
    while len(terms) > 2:
        part = lowering.quantize(PendingSum(tuple(terms[:2])), grid, f"{lowering.node.name}.part")
        terms = [part, *terms[2:]]
    return replace(x, terms=tuple(terms))


def on_own_scale(lowering: Lowering, x: ScaledInts) -> ScaledInts:
    """A quantized tensor whose value has the scale that the tensor has: kernels of other runtimes
    take a factor from nowhere else. The same integers, by a requantization where they are on
    another scale."""
    if lowering.builder.arithmetic.form == "single" or lowering.dtype(x) not in BYTES:
        return x
    return _on_own_grid(lowering, x)


def _are_moves(lowering: Lowering, x: PendingSum) -> bool:
    return all(_is_move(lowering, term) for term in x.terms)


def _positive(lowering: Lowering, term: ScaledInts) -> ScaledInts:
    """The term with scales above 0: the integers of channels whose scale is below are negated."""
    if (term.scale >= 0).all():
        return term
    shape, form = lowering.value_shape(term), lowering.builder.arithmetic.form
    dim = lowering.batch_dim(term)
    per_channel = term.scale.size > 1
    is_picture = len(shape) == 3 and (not per_channel or lowering.scale_axis(pending(term)) == 1)
    if lowering.dtype(term) not in BYTES or (per_channel and not is_picture):
        lowering.fail(
            f"it negates a sum, and the march's requantization ({form}) has no negative "
            "multipliers",
            "negate the weight of the layer before it, or add instead",
        )
    name, value = f"{lowering.node.name}.negated", term.value
    if not is_picture:
        picture = (1, int(np.prod(shape, dtype=np.int64)), 1)
        value = lowering.emit_value_axes(
            "reshape", (value,), np.abs(term.scale), dim, name=name, shape=picture
        ).value
    channels = shape[0] if is_picture else 1
    weight = np.broadcast_to(np.where(term.scale < 0, -1, 1), (channels,))
    signs = lowering.const("signs", "int8", weight.reshape(-1, 1, 1, 1))
    y = lowering.emit_value_axes(
        "conv", (value, signs), np.abs(term.scale), dim, scale_axis=1 if per_channel else None,
        name=name, stride=(1, 1), padding=(0, 0, 0, 0), dilation=(1, 1), groups=channels,
    )  # fmt: skip
    if is_picture:
        return y
    return lowering.emit_value_axes("reshape", (y.value,), y.scale, dim, name=name, shape=shape)


def _on_own_grid(lowering: Lowering, term: ScaledInts) -> ScaledInts:
    """A term of a sum as 8-bit integers with one scale, which holds all its numbers."""
    if _is_move(lowering, term):
        return term
    source, doubled = _source(lowering, term.value), 1.0
    if source not in BYTES:
        form = lowering.builder.arithmetic.form
        lowering.fail(
            f"the march's requantization ({form}) adds two quantized tensors at a time",
            "let a module of its own compute each part, so that a fake-quant stands behind it",
        )
    if source == "uint8" and lowering.dtype(term) == "int32":  # its negative has 9 bits
        source, doubled = "int8", 2.0
    source_grid = Grid(float(np.float32(term.scale.max())) * doubled, source)
    x, axis = pending(term), lowering.scale_axis(pending(term))
    ms, shift, attrs = requantization(lowering, x, source_grid, axis)
    low, high = RANGE[source_grid.dtype]
    return lowering.requant(
        x,
        ms,
        shift,
        source_grid,
        name=f"{lowering.node.name}.term",
        axis=axis,
        low=low,
        high=high,
        **attrs,
    )


def _source(lowering: Lowering, value: str) -> DType:
    """The dtype of an 8-bit tensor, or of the one whose integers `value` has negated."""
    values = lowering.builder.values
    if values[value].dtype in BYTES:
        return values[value].dtype
    producer = _producer(lowering, value)
    if producer is None or producer.kind != "conv":
        return values[value].dtype
    signs = lowering.builder.consts[producer.inputs[1]]
    negated = signs.shape[1:] == (1, 1, 1) and len(producer.inputs) == 2 and (abs(signs) == 1).all()
    return values[producer.inputs[0]].dtype if negated else values[value].dtype


def requantization(lowering: Lowering, x: PendingSum, grid: Grid, axis: int) -> Constants:
    """(multipliers, shift, attributes) that bring the terms of `x` to `grid`. axis: along which the
    terms have scales. Raises Unlowerable for what the march's form cannot compute."""
    form = lowering.builder.arithmetic.form
    if form == "single" or grid.dtype not in BYTES:
        return _single(lowering, x, grid, axis)
    out = np.float32(grid.scale)
    if len(x.terms) > 1:
        return _sum(lowering, x, out)
    term = x.terms[0]
    if _is_move(lowering, term):
        if form == "double_high":
            m, shift = forms.double_high(np.array([term.step / float(out)]))
            return [m], shift, {"form": form, "rounding": "half_up"}
        m, shift = forms.float32_move(term.step, float(out))
        return [m], shift, {"rounding": "half_up"}
    operand, factor, rounded_product = _factors(lowering, term)
    if form == "float32" or rounded_product:
        product = (operand * factor).astype(np.float32)
        if form == "float32":
            m, shift = forms.float32(product / out)
            return [m], shift, {"form": form, "rounding": "half_even"}
        ratio = (product / out).astype(np.float64)
    else:
        ratio = operand.astype(np.float64) * factor / float(out)
    m, shift = forms.double_high(ratio)
    return [m], shift, {"form": form, "rounding": "half_up"}


def fraction_bits(lowering: Lowering, bits: int) -> int:
    """Fraction bits of the weights of a bilinear resize: `bits`, or what the kernels of the march's
    form have."""
    return {"double_high": 10, "float32": 11}.get(lowering.builder.arithmetic.form, bits)


def on_operand_grid(lowering: Lowering, total: ScaledInts, x: ScaledInts, bits: int) -> ScaledInts:
    """A weighted mean of `x` with `bits` fraction bits. In the forms of other runtimes its kernel
    rounds it to the grid of `x`: half away from zero, or half up; else it is returned as it is."""
    form = lowering.builder.arithmetic.form
    if form == "single":
        return total
    dtype = lowering.dtype(x)
    low, high = RANGE[dtype]
    attrs: dict[str, Any] = {"rounding": "half_up"}
    m, shift = 1, bits
    if form == "double_high":  # 2 * v * 2^30 / 2^31 is v, and the shift rounds half away
        attrs, m = {**attrs, "form": form, "lift": 1}, 1 << 30
    return lowering.requant(
        pending(total), [np.array([m])], np.array([shift]), Grid(x.step, dtype),
        name=f"{lowering.node.name}.rounded", axis=1, low=low, high=high, **attrs,
    )  # fmt: skip


def _single(lowering: Lowering, x: PendingSum, grid: Grid, axis: int) -> Constants:
    arithmetic = lowering.builder.arithmetic
    ms, shift = multipliers(
        [t.scale / float(np.float32(grid.scale)) for t in x.terms],
        [lowering.builder.ranges[t.value] for t in x.terms],
        arithmetic.multiplier_bits,
        axis,
    )
    return ms, shift, {"rounding": arithmetic.rounding}


def _sum(lowering: Lowering, x: PendingSum, out: np.float32) -> Constants:
    scales = [term.step for term in x.terms]
    if lowering.builder.arithmetic.form == "double_high" or not forms.in_float32_sum(scales, out):
        ms, shift, attrs = forms.double_high_sum(scales, float(out))
        return ms, shift, {"form": "double_high", "rounding": "half_up", **attrs}
    ms, shift = forms.float32_sum(scales, float(out))
    return ms, shift, {"rounding": "half_up"}


def _is_move(lowering: Lowering, term: ScaledInts) -> bool:
    """Return whether the term is a quantized tensor on its own scale, of either sign."""
    value = lowering.builder.values[term.value]
    if value.dtype not in BYTES or term.scale.size > 1 or value.scale is None:
        return False
    return bool(np.float32(abs(term.step)) == value.scale[0])


def _factors(lowering: Lowering, term: ScaledInts) -> tuple[np.ndarray, np.ndarray, bool]:
    """(operand's scale, scale of what it is multiplied by, whether kernels round the product of
    both to float32 in every form) of an accumulator, float32 as their file holds them: a weight's
    scale, or that of the integer 1 where the accumulator is a sum alone."""
    values = lowering.builder.values
    if values[term.value].dtype in BYTES:
        operand = values[term.value].scale
        rounded_product = term.scale.size == 1
    else:
        producer = _producer(lowering, term.value)
        operand = values[producer.inputs[0]].scale if producer else None
        rounded_product = producer is not None and producer.kind == "mul"
    if operand is None:
        operand = np.ones(1, np.float32)
    return operand, (term.scale / operand.astype(np.float64)).astype(np.float32), rounded_product


def _producer(lowering: Lowering, value: str) -> Op | None:
    """The op whose accumulator `value` is, behind ops that move its integers."""
    made = {op.output: op for op in lowering.builder.ops}
    while value in made:
        op = made[value]
        if not has(op, Trait.REARRANGES) and op.kind != "concat":
            return op
        value = op.inputs[0]
    return None
