"""Arithmetic of elements: products, quotients, bounds, and a scale and offset per channel."""

from __future__ import annotations

from typing import Any, cast

import numpy as np

from qatspec.ir import EXACT64, DType, Interval, Op, Overflow, Value, interval, within_int32
from qatspec.kinds.attributes import (
    MAX_SHIFT,
    ROUNDINGS,
    SMALL,
    Axis,
    Int,
    Level,
    Malformed,
    Word,
    broadcast,
    demand_const,
    demand_small,
)
from qatspec.kinds.record import Consts, Kind, Result, Trait, every, first
from qatspec.types import lazy


def _mul(op: Op, inputs: list[Value], consts: Consts) -> Result:
    for value in inputs:
        demand_small(value)
    return "int32", broadcast(inputs[0].shape, inputs[1].shape)


def _mul_bounds(op: Op, inputs: list[Interval], shape: Any, consts: Consts) -> Interval:
    x, y = (i.merged() for i in inputs)
    corners = [int(a[0]) * int(b[0]) for a in (x.low, x.high) for b in (y.low, y.high)]
    return within_int32(interval(min(corners), max(corners)))


def _clamp(op: Op, inputs: list[Value], consts: Consts) -> Result:
    return inputs[0].dtype, inputs[0].shape


def _clamp_bounds(op: Op, inputs: list[Interval], shape: Any, consts: Consts) -> Interval:
    low, high = op.attrs["low"], op.attrs["high"]
    return Interval(np.clip(inputs[0].low, low, high), np.clip(inputs[0].high, low, high)).merged()


def _affine(op: Op, inputs: list[Value], consts: Consts) -> Result:
    x, w, b = inputs
    size = (x.shape[op.attrs["axis"] - 1],)
    demand_const(w, consts, ("int8",), 1)
    demand_const(b, consts, ("int32",), 1)
    if x.dtype == "int64" or w.shape != size or b.shape != size:
        raise Malformed(f"weight {w.shape} and bias {b.shape} must have {size[0]} entries")
    return "int32", x.shape


def _affine_bounds(op: Op, inputs: list[Interval], shape: Any, consts: Consts) -> Interval:
    """Bounding the product before the bias as well."""
    x = inputs[0].merged()
    w, b = (consts[name].astype(np.int64) for name in op.inputs[1:])
    ends = np.stack([w * int(x.low[0]), w * int(x.high[0])])
    low, high = ends.min(0) + np.minimum(b, 0), ends.max(0) + np.maximum(b, 0)
    return within_int32(Interval(low, high, op.attrs["axis"]))


def _divide(op: Op, inputs: list[Value], consts: Consts) -> Result:
    if any(value.dtype == "int64" for value in inputs):
        raise Malformed("operands must be of 32 bits or fewer")
    return cast(DType, op.attrs["dtype"]), broadcast(inputs[0].shape, inputs[1].shape)


def _divide_bounds(op: Op, inputs: list[Interval], shape: Any, consts: Consts) -> Interval:
    """A quarter of 2^53: float64 then rounds each quotient as the exact one is rounded."""
    x, y = (i.magnitude for i in inputs)
    divisor = y << op.attrs["shift"]
    if x * op.attrs["multiplier"] + divisor >= EXACT64 // 4:
        raise Overflow(f"the division of {x} by {y} may reach 2^51 on the way")
    return interval(op.attrs["low"], op.attrs["high"])


KINDS = (
    Kind(
        name="mul",
        operands="x, y -> int32",
        meaning="The product, broadcast over trailing dims.",
        count=(2, 2),
        activations=every,
        attributes={},
        infer=_mul,
        bounds=_mul_bounds,
        step=lazy("qatspec.kinds.elementwise.step:mul"),
        onnx=lazy("qatspec.kinds.elementwise.onnx:mul"),
        traits=frozenset({Trait.POINTWISE}),
    ),
    Kind(
        name="clamp",
        operands="x -> same",
        meaning="min(max(x, low), high).",
        count=(1, 1),
        activations=every,
        attributes={"low": Level(), "high": Level(above="low")},
        infer=_clamp,
        bounds=_clamp_bounds,
        step=lazy("qatspec.kinds.elementwise.step:clamp"),
        onnx=lazy("qatspec.kinds.elementwise.onnx:clamp"),
        traits=frozenset({Trait.POINTWISE, Trait.FOLLOWS}),
    ),
    Kind(
        name="affine",
        operands="x, w (C) int8, b (C) int32 -> int32",
        meaning="x * w[c] + b[c] along `axis`.",
        count=(3, 3),
        activations=first,
        attributes={"axis": Axis()},
        infer=_affine,
        bounds=_affine_bounds,
        step=lazy("qatspec.kinds.elementwise.step:affine"),
        onnx=lazy("qatspec.kinds.elementwise.onnx:affine"),
    ),
    Kind(
        name="divide",
        operands='x, y -> attrs["dtype"]',
        meaning="clamp(round(x * multiplier / (y * 2^shift)), low, high), broadcast. A divisor of "
        "0 counts as 1, one step of its grid.",
        count=(2, 2),
        activations=every,
        attributes={
            "dtype": Word((*SMALL, "int32")),
            "low": Level(of_result=True),
            "high": Level(of_result=True, above="low"),
            "multiplier": Int(0, 1 << MAX_SHIFT),
            "shift": Int(0, MAX_SHIFT),
            "rounding": Word(ROUNDINGS),
        },
        infer=_divide,
        bounds=_divide_bounds,
        step=lazy("qatspec.kinds.elementwise.step:divide"),
        onnx=lazy("qatspec.kinds.elementwise.onnx:divide"),
        traits=frozenset({Trait.POINTWISE, Trait.SOFTMAX}),
    ),
)
