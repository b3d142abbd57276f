"""Pools: the largest integer of a window, and the sum of its integers."""

from __future__ import annotations

from typing import Any

from qatspec.ir import Interval, Op, Value, interval, within_int32
from qatspec.kinds.attributes import Ints, demand_rank, demand_small
from qatspec.kinds.record import Consts, Kind, Result, Trait, every, same_interval
from qatspec.kinds.window import demand_inside, windows
from qatspec.types import lazy


def _pooled(op: Op, x: Value, dilation: tuple[int, ...]) -> tuple[int, ...]:
    demand_small(x)
    demand_rank(x, 3)
    demand_inside(op.attrs, op.attrs["kernel"], dilation)
    return x.shape[0], *windows(x.shape, op.attrs, op.attrs["kernel"], dilation)


def _max_pool(op: Op, inputs: list[Value], consts: Consts) -> Result:
    return inputs[0].dtype, _pooled(op, inputs[0], tuple(op.attrs["dilation"]))


def _sum_pool(op: Op, inputs: list[Value], consts: Consts) -> Result:
    return "int32", _pooled(op, inputs[0], (1, 1))


def _sum_bounds(op: Op, inputs: list[Interval], shape: Any, consts: Consts) -> Interval:
    """A window may hold padding, which is 0."""
    x, count = inputs[0].merged(), op.attrs["kernel"][0] * op.attrs["kernel"][1]
    return within_int32(interval(min(int(x.low[0]), 0) * count, max(int(x.high[0]), 0) * count))


_WINDOW = {"kernel": Ints(2, 1), "stride": Ints(2, 1), "padding": Ints(4, 0)}
_TRAITS = frozenset({Trait.WINDOWED, Trait.IMAGES})

KINDS = (
    Kind(
        name="max_pool",
        operands="x -> same",
        meaning="The largest integer of each window. Padding is filled with the dtype's lowest.",
        count=(1, 1),
        activations=every,
        attributes={**_WINDOW, "dilation": Ints(2, 1)},
        infer=_max_pool,
        bounds=same_interval,
        step=lazy("qatspec.kinds.pools.step:max_pool"),
        onnx=lazy("qatspec.kinds.pools.onnx:max_pool"),
        traits=_TRAITS,
    ),
    Kind(
        name="sum_pool",
        operands="x -> int32",
        meaning="The sum of each window. Padding is filled with 0.",
        count=(1, 1),
        activations=every,
        attributes=_WINDOW,
        infer=_sum_pool,
        bounds=_sum_bounds,
        step=lazy("qatspec.kinds.pools.step:sum_pool"),
        onnx=lazy("qatspec.kinds.pools.onnx:sum_pool"),
        traits=_TRAITS,
    ),
)
