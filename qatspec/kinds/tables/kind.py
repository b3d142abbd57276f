"""Tables: functions of one integer, looked up."""

from __future__ import annotations

from typing import Any, cast

import numpy as np

from qatspec.ir import RANGE, DType, Interval, Op, Value, interval
from qatspec.kinds.attributes import (
    SMALL,
    Axis,
    Int,
    Malformed,
    Optional,
    Word,
    demand_const,
    demand_small,
    demand_table,
)
from qatspec.kinds.record import Consts, Kind, Result, Trait, first
from qatspec.kinds.tables.segments import SEGMENT, SEGMENT_BITS, SEGMENTS, SHIFT_BITS
from qatspec.types import lazy

#: Bits behind the binary point of a table's entries.
_FRACTION = Optional(Int(0, 16))
#: What a third operand means.
_IN_SEGMENTS = (
    " With a third operand, `segments` (int32, 256 words), x is int16 and the table is in segments "
    "of 256 integers: for i = x - lowest(x.dtype) and w = segments[i >> 8], s = w & 15, "
    "a = (w >> 4) + ((i & 255) >> s), r = i & (2^s - 1), the result is "
    "(table[a] * (2^s - r) + table[a + 1] * r + half) >> (s + fraction_bits), half being half of "
    "2^(s + fraction_bits) rounded down; `fraction_bits` is 0 where it is absent."
)


def _looked_up(op: Op, inputs: list[Value], consts: Consts) -> Result:
    demand_small(inputs[0])
    dtype = cast(DType, op.attrs["dtype"])
    if len(inputs) == 3:
        _demand_segments(op, inputs, consts)
    elif "fraction_bits" in op.attrs:
        raise Malformed("only entries of a table in segments have fractions")
    else:
        demand_table(inputs[0], inputs[1], consts, dtype)
    return dtype, inputs[0].shape


def _demand_segments(op: Op, inputs: list[Value], consts: Consts) -> None:
    """Every segment of the 65536 integers must have its entries in the table."""
    x, table, segments = inputs
    if x.dtype != "int16":
        raise Malformed(f"operand `{x.name}` of a table in segments must be int16")
    demand_const(table, consts, ("int16", "int32"), 1)
    demand_const(segments, consts, ("int32",), 1)
    words = consts[segments.name].astype(np.int64)
    if words.shape != (SEGMENTS,):
        raise Malformed(f"a table in segments must have {SEGMENTS} segments")
    first, shift = words >> SHIFT_BITS, words & ((1 << SHIFT_BITS) - 1)
    last = first + (SEGMENT >> shift) - (shift == 0)
    if shift.max() > SEGMENT_BITS or first.min() < 0 or last.max() >= table.shape[0]:
        raise Malformed(f"a segment of `{segments.name}` leaves the table")
    low, high = RANGE[op.attrs["dtype"]]
    most = _bounds(op, [], None, consts)
    if most.low.min() < low or most.high.max() > high:
        raise Malformed(f"entries of `{table.name}` leave {op.attrs['dtype']}")


def _bounds(op: Op, inputs: list[Interval], shape: Any, consts: Consts) -> Interval:
    table, fraction = consts[op.inputs[1]], op.attrs.get("fraction_bits", 0)
    low, high = ((int(v) + (1 << fraction >> 1)) >> fraction for v in (table.min(), table.max()))
    return interval(low, high)


KINDS = (
    Kind(
        name="lut",
        operands='x, table, segments? -> attrs["dtype"]',
        meaning="table[x - lowest(x.dtype)]; a table for int8 has 256 entries." + _IN_SEGMENTS,
        count=(2, 3),
        activations=first,
        attributes={"dtype": Word((*SMALL, "int32")), "fraction_bits": _FRACTION},
        infer=_looked_up,
        bounds=_bounds,
        step=lazy("qatspec.kinds.tables.step:lut"),
        onnx=lazy("qatspec.kinds.tables.onnx:lut"),
        traits=frozenset({Trait.POINTWISE, Trait.FOLLOWS, Trait.TABLE}),
    ),
    Kind(
        name="exp_below_max",
        operands='x, table, segments? -> attrs["dtype"]',
        meaning="table[max(x along axis) - x]: the numerators of a softmax. The table is as lut's, "
        "also in segments.",
        count=(2, 3),
        activations=first,
        attributes={
            "dtype": Word(("int8", "int16", "int32")),
            "axis": Axis(),
            "fraction_bits": _FRACTION,
        },
        infer=_looked_up,
        bounds=_bounds,
        step=lazy("qatspec.kinds.tables.step:exp_below_max"),
        onnx=lazy("qatspec.kinds.tables.onnx:exp_below_max"),
        traits=frozenset({Trait.TABLE, Trait.SOFTMAX}),
    ),
)
