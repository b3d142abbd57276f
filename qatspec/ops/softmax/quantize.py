"""Softmax and its logarithm in integers: exponentials below the maximum from a table, their sum, a
quotient or the logarithm of the sum from a second table."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import fx

from qatspec.graph.context import GraphContext
from qatspec.ir import RANGE, DType
from qatspec.kinds import BYTES
from qatspec.lowering import Lowering, PendingSum, ScaledInts, expanded, quotient, table
from qatspec.ops.softmax.calls import Softmax
from qatspec.types import Annotation, Observed

#: Bits of the largest exponential, of a sum of them, and of the fractions that are added up where
#: what rounding takes from each would count in the sum.
_UNIT_BITS, _SUM_BITS, _REST_BITS = 20, 30, 10
#: An exponential of a number of 16 bits may be off by so small a part of itself.
_EXP_BITS = 18
#: Bits of the index of a table of logarithms.
_INDEX_BITS = 15


def annotate(node: fx.Node, context: GraphContext) -> Annotation:
    """Probabilities, or their logarithms, have a range of their own."""
    return Annotation(output=Observed())


def lower_softmax(node: fx.Node, lowering: Lowering) -> ScaledInts:
    """exp(x - max) / sum exp(x - max): one rounding, of the quotient."""
    exponentials, total, _, _ = _exponentials(node, lowering)
    return quotient(lowering, exponentials, total)


def lower_log_softmax(node: fx.Node, lowering: Lowering) -> PendingSum:
    """x - max - log(sum exp(x - max))."""
    _, total, x, axis = _exponentials(node, lowering)
    logarithm = _logarithm(lowering, total, lowering.shape(node.args[0])[axis])
    name = f"{node.name}.most"
    most = lowering.emit_same_scale("reduce_max", x, name=name, axes=(axis,), keepdim=True)
    shape = lowering.shape()
    narrow = (*shape[:axis], 1, *shape[axis + 1 :])
    wide = (expanded(lowering, term, narrow, shape).scaled(-1.0) for term in (most, logarithm))
    return PendingSum((x, *wide))


def _logarithm(lowering: Lowering, total: ScaledInts, size: int) -> ScaledInts:
    """The natural logarithm of a sum of `size` numbers, the largest of which is 1.

    It is a sum itself: every part is looked up for its own octaves, by an index that is as large as
    it gets above them; below them the part is 0. What becomes 8 bits has ten octaves a table, what
    becomes more has three: a step of the index is at most 2^-5, or 2^-12, of the sum."""
    unit = round(1.0 / total.step)
    octaves = 10 if _eight_bits(lowering) else 3
    shift = max(min(octaves, (size - 1).bit_length()) + unit.bit_length() - 1 - _INDEX_BITS, 0)
    low, high = RANGE["int16"]
    parts: list[str] = []
    step, reached = 2.0**-20, float(unit)
    while reached < unit * size * high / (high + 1) or not parts:
        operands = (
            total.value,
            lowering.const("one", "int64", [1]),
            lowering.const("index.shift", "int64", [shift]),
        )
        index = _requant(lowering, operands, 1.0, "index", "int16")
        sums = np.maximum(np.arange(low, high + 1) * 2.0**shift, reached)
        logs, attrs = table(lowering, "log", "int32", np.log(sums / reached) / step)
        name = f"{lowering.node.name}.log"
        part = lowering.emit("lut", (index.value, *logs), step, name=name, dtype="int32", **attrs)
        parts.append(part.value)
        reached = max(high * 2.0**shift, reached)
        shift += octaves
    if len(parts) == 1:
        return part
    ones = [lowering.const("one", "int64", [1])] * len(parts)
    terms = (*parts, *ones, lowering.const("log.shift", "int64", [0]))
    return _requant(lowering, terms, step, "log", "int32")


def _requant(
    lowering: Lowering, operands: Sequence[str], scale: float, name: str, dtype: DType,
    bounds: tuple[int, int] | None = None,
) -> ScaledInts:  # fmt: skip
    """The terms of a requant, from 0 on or within `bounds`. Each has one multiplier for all
    channels."""
    low, high = bounds or (0, RANGE[dtype][1])
    return lowering.emit_value_axes(
        "requant", operands, scale, lowering.common_batch_dim(operands), dtype=dtype,
        name=f"{lowering.node.name}.{name}", axis=1, rounding="half_up", low=low, high=high,
    )  # fmt: skip


def _eight_bits(lowering: Lowering) -> bool:
    grid = lowering.grid()
    return grid is not None and grid.dtype in BYTES


def _exponentials(
    node: fx.Node, lowering: Lowering
) -> tuple[ScaledInts, ScaledInts, ScaledInts, int]:
    """(exp(x - max), its sum along the axis, x, the axis)."""
    x = lowering.small_integers(node.args[0])
    shape = lowering.shape(node.args[0])
    axis = lowering.context.call(node, Softmax).axis(len(shape)) % len(shape)
    if axis == lowering.batch_dim(x).batch:
        lowering.fail("it sums over the batch", "name another dim")
    unit = min(1 << _UNIT_BITS, (1 << _SUM_BITS) // shape[axis])
    low, high = RANGE[lowering.dtype(x)]
    real = unit * np.exp(-np.arange(high - low + 1, dtype=np.float64) * x.step)
    has_rests = shape[axis] * (256 if _eight_bits(lowering) else 65536) > unit  # 1/8 of a step
    if has_rests and len(real) > 256:
        exponentials, rests = _parted(lowering, x, axis, real * 2.0**_REST_BITS, 1.0 / unit)
    else:
        exponentials = _looked_up(lowering, x, axis, real, 1.0 / unit, "exp")
    total = _total(lowering, exponentials, axis)
    if has_rests:
        if len(real) <= 256:
            rest = np.rint((real - np.rint(real)) * 2.0**_REST_BITS)
            scale = exponentials.step * 2.0**-_REST_BITS
            rests = _looked_up(lowering, x, axis, rest, scale, "rest")
        rests = _total(lowering, rests, axis)
        operands = (
            total.value,
            rests.value,
            lowering.const("whole", "int64", [1 << _REST_BITS]),
            lowering.const("one", "int64", [1]),
            lowering.const("rest.shift", "int64", [_REST_BITS]),
        )
        total = _requant(lowering, operands, total.step, "total", "int32")
    return exponentials, total, x, axis


def _parted(
    lowering: Lowering, x: ScaledInts, axis: int, real: np.ndarray, scale: float
) -> tuple[ScaledInts, ScaledInts]:
    """(exponentials, rests): what a table in segments gives for numbers of 16 bits, rounded, and
    what rounding took. real: the exponentials with the bits of the rests; scale: without them."""
    fine_scale = scale * 2.0**-_REST_BITS
    fine = _looked_up(lowering, x, axis, real, fine_scale, "fine")
    one = lowering.const("one", "int64", [1])
    shift = lowering.const("exp.shift", "int64", [_REST_BITS])
    most, half = round(real[0]) >> _REST_BITS, 1 << (_REST_BITS - 1)
    rounded = _requant(lowering, (fine.value, one, shift), scale, "exp", "int32", (0, most))
    terms = (
        fine.value,
        rounded.value,
        one,
        lowering.const("whole.below", "int64", [-1 << _REST_BITS]),
        lowering.const("none", "int64", [0]),
    )
    return rounded, _requant(lowering, terms, fine_scale, "rest", "int32", (-half, half))


def _looked_up(
    lowering: Lowering, x: ScaledInts, axis: int, real: np.ndarray, scale: float, suffix: str
) -> ScaledInts:
    """The entry, of those in `real`, of how far each number lies below the maximum."""
    error = np.maximum(0.25, np.abs(real) * 2.0**-_EXP_BITS)
    operands, attrs = table(lowering, suffix, "int32", real, error)
    return lowering.emit(
        "exp_below_max", (x.value, *operands), scale, name=f"{lowering.node.name}.{suffix}",
        dtype="int32", axis=axis, **attrs,
    )  # fmt: skip


def _total(lowering: Lowering, x: ScaledInts, axis: int) -> ScaledInts:
    name = f"{lowering.node.name}.sum"
    return lowering.emit_same_scale("reduce_sum", x, name=name, axes=(axis,), keepdim=True)
