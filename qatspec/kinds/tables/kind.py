"""Tables: functions of one integer, looked up."""

from __future__ import annotations

from typing import Any, cast

from qatspec.ir import DType, Interval, Op, Value, interval
from qatspec.kinds.attributes import SMALL, Axis, Word, demand_small, demand_table
from qatspec.kinds.record import Consts, Kind, Result, Trait, first
from qatspec.types import lazy


def _looked_up(op: Op, inputs: list[Value], consts: Consts) -> Result:
    demand_small(inputs[0])
    demand_table(inputs[0], inputs[1], consts, op.attrs["dtype"])
    return cast(DType, op.attrs["dtype"]), inputs[0].shape


def _bounds(op: Op, inputs: list[Interval], shape: Any, consts: Consts) -> Interval:
    table = consts[op.inputs[1]]
    return interval(int(table.min()), int(table.max()))


KINDS = (
    Kind(
        name="lut",
        operands='x, table -> attrs["dtype"]',
        meaning="table[x - lowest(x.dtype)]; a table for int8 has 256 entries.",
        count=(2, 2),
        activations=first,
        attributes={"dtype": Word((*SMALL, "int32"))},
        infer=_looked_up,
        bounds=_bounds,
        step=lazy("qatspec.kinds.tables.step:lut"),
        onnx=lazy("qatspec.kinds.tables.onnx:lut"),
        traits=frozenset({Trait.POINTWISE, Trait.FOLLOWS, Trait.TABLE}),
    ),
    Kind(
        name="exp_below_max",
        operands='x, table -> attrs["dtype"]',
        meaning="table[max(x along axis) - x]: the numerators of a softmax. The table is as lut's.",
        count=(2, 2),
        activations=first,
        attributes={"dtype": Word(("int8", "int16", "int32")), "axis": Axis()},
        infer=_looked_up,
        bounds=_bounds,
        step=lazy("qatspec.kinds.tables.step:exp_below_max"),
        onnx=lazy("qatspec.kinds.tables.onnx:exp_below_max"),
        traits=frozenset({Trait.TABLE, Trait.SOFTMAX}),
    ),
)
