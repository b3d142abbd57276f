"""Requantization: accumulators to the next grid, with one rounding."""

from __future__ import annotations

from typing import Any, cast

import numpy as np

from qatspec.ir import EXACT64, DType, Interval, Op, Overflow, Value, interval
from qatspec.kinds.attributes import (
    ROUNDINGS,
    SMALL,
    Axis,
    Level,
    Malformed,
    Word,
    demand_const,
)
from qatspec.kinds.record import Consts, Kind, Result, Trait
from qatspec.kinds.requantization.forms import OF_FORMS, check_form, demand_int32, form_of
from qatspec.types import lazy

#: Most accumulators that one op adds.
MOST_TERMS = 64


def _requant(op: Op, inputs: list[Value], consts: Consts) -> Result:
    terms, rest = divmod(len(inputs) - 1, 2)
    if rest:
        raise Malformed("takes x1..xn, m1..mn and one shift")
    shape, axis = inputs[0].shape, op.attrs["axis"]
    for x in inputs[:terms]:
        if x.shape != shape or x.dtype == "int64":
            raise Malformed(f"operand `{x.name}` must be an int32 or smaller of shape {shape}")
    for c in inputs[terms:]:
        demand_const(c, consts, ("int64",), 1)
        if c.shape[0] not in (1, shape[axis - 1] if shape else 1):
            raise Malformed(f"`{c.name}` has {c.shape[0]} entries; axis {axis} of {shape} does not")
    check_form(op, [consts[c.name] for c in inputs[terms:]])
    return cast(DType, op.attrs["dtype"]), shape


def _bounds(op: Op, inputs: list[Interval], shape: Any, consts: Consts) -> Interval:
    terms = len(inputs) // 2
    if form_of(op) == "double_high":
        demand_int32(op, inputs[:terms], [consts[name] for name in op.inputs[terms:]])
    if form_of(op) != "single":
        return interval(op.attrs["low"], op.attrs["high"])
    bound = requant_bound(
        [(inputs[i], consts[op.inputs[terms + i]]) for i in range(terms)],
        consts[op.inputs[-1]],
        op.attrs["axis"],
    )
    if bound.max() >= EXACT64:
        raise Overflow(f"the requantization may reach {bound.max():.4g}, 2^53 is {EXACT64:.4g}")
    return interval(op.attrs["low"], op.attrs["high"])


def requant_bound(
    terms: list[tuple[Interval, np.ndarray]], shift: np.ndarray, axis: int
) -> np.ndarray[Any, np.dtype[np.float64]]:
    """max |sum x_i * m_i| + 2^(shift-1) per channel, in float64. Below 2^53 it is exact; rounding
    is monotone, so a sum that reaches 2^53 never seems smaller."""
    total = np.exp2(shift.astype(np.float64)) / 2
    for x, m in terms:
        x = x if x.axis == axis else x.merged()
        reach = np.maximum(np.abs(x.low.astype(np.float64)), np.abs(x.high.astype(np.float64)))
        with np.errstate(over="ignore"):  # infinity is above 2^53 as well
            total = total + reach * np.abs(m.astype(np.float64))
    return np.asarray(total)


KINDS = (
    Kind(
        name="requant",
        operands='x1..xn, m1..mn, shift -> attrs["dtype"]',
        meaning="clamp(round(sum_i xi * mi / 2^shift), low, high). mi and shift are int64 consts "
        "of shape (1,) or (C,) along `axis`. It serves requantization, elementwise addition and "
        "subtraction, the residual that is added to a convolution, relu and relu6 (low, high): "
        "one rounding at the end. rounding: half_up is floor(v / 2^s + 1/2). That is the form "
        "single; the forms double_high and float32 round as other runtimes do "
        "(qatspec.kinds.requantization.forms).",
        count=(3, 2 * MOST_TERMS + 1),
        activations=lambda count: count // 2,
        attributes={
            "dtype": Word((*SMALL, "int32")),
            "low": Level(of_result=True),
            "high": Level(of_result=True, above="low"),
            "rounding": Word(ROUNDINGS),
            "axis": Axis(scalar=True),
            **OF_FORMS,
        },
        infer=_requant,
        bounds=_bounds,
        step=lazy("qatspec.kinds.requantization.step:requant"),
        onnx=lazy("qatspec.kinds.requantization.onnx:requant"),
        traits=frozenset({Trait.POINTWISE, Trait.FOLLOWS}),
    ),
)
