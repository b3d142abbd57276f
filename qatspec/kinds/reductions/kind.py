"""Reductions of whole dims: sums, maxima and the places of maxima."""

from __future__ import annotations

from math import prod
from typing import Any

from qatspec.ir import Interval, Op, Value, interval, within_int32
from qatspec.kinds.attributes import Axes, Axis, Flag, demand_small
from qatspec.kinds.record import Consts, Kind, Result, Trait, every, same_interval
from qatspec.types import lazy


def _reduced(op: Op, x: Value) -> tuple[int, ...]:
    axes, keep = op.attrs["axes"], op.attrs["keepdim"]
    return tuple(1 if i in axes else d for i, d in enumerate(x.shape, 1) if keep or i not in axes)


def _reduce_sum(op: Op, inputs: list[Value], consts: Consts) -> Result:
    return "int32", _reduced(op, inputs[0])


def _sum_bounds(op: Op, inputs: list[Interval], shape: Any, consts: Consts) -> Interval:
    x, count = inputs[0].merged(), prod(shape[a - 1] for a in op.attrs["axes"])
    return within_int32(interval(int(x.low[0]) * count, int(x.high[0]) * count))


def _reduce_max(op: Op, inputs: list[Value], consts: Consts) -> Result:
    demand_small(inputs[0])
    return inputs[0].dtype, _reduced(op, inputs[0])


def _argmax(op: Op, inputs: list[Value], consts: Consts) -> Result:
    x, axis = inputs[0], op.attrs["axis"] - 1
    demand_small(x)
    kept = (1,) if op.attrs["keepdim"] else ()
    return "int32", (*x.shape[:axis], *kept, *x.shape[axis + 1 :])


def _argmax_bounds(op: Op, inputs: list[Interval], shape: Any, consts: Consts) -> Interval:
    return interval(0, shape[op.attrs["axis"] - 1] - 1)


_AXES = {"axes": Axes(), "keepdim": Flag()}

KINDS = (
    Kind(
        name="reduce_sum",
        operands="x -> int32",
        meaning="The sum over the dims `axes` (counted with the batch).",
        count=(1, 1),
        activations=every,
        attributes=_AXES,
        infer=_reduce_sum,
        bounds=_sum_bounds,
        step=lazy("qatspec.kinds.reductions.step:reduce_sum"),
        onnx=lazy("qatspec.kinds.reductions.onnx:reduce_sum"),
        traits=frozenset({Trait.REDUCES}),
    ),
    Kind(
        name="reduce_max",
        operands="x -> same",
        meaning="The largest integer over the dims `axes` (counted with the batch).",
        count=(1, 1),
        activations=every,
        attributes=_AXES,
        infer=_reduce_max,
        bounds=same_interval,
        step=lazy("qatspec.kinds.reductions.step:reduce_max"),
        onnx=lazy("qatspec.kinds.reductions.onnx:reduce_max"),
        traits=frozenset({Trait.REDUCES, Trait.COMMUTES}),
    ),
    Kind(
        name="argmax",
        operands="x -> int32",
        meaning="The first place of the largest integer along `axis`.",
        count=(1, 1),
        activations=every,
        attributes={"axis": Axis(), "keepdim": Flag()},
        infer=_argmax,
        bounds=_argmax_bounds,
        step=lazy("qatspec.kinds.reductions.step:argmax"),
        onnx=lazy("qatspec.kinds.reductions.onnx:argmax"),
    ),
)
