"""Resizes of images, by the nearest pixel and bilinear."""

from __future__ import annotations

from typing import Any

from qatspec.ir import Interval, Op, Value, interval, within_int32
from qatspec.kinds.attributes import Flag, Int, Ints, demand_rank, demand_small
from qatspec.kinds.record import Consts, Kind, Result, Trait, every, same_interval
from qatspec.types import lazy


def _nearest(op: Op, inputs: list[Value], consts: Consts) -> Result:
    demand_rank(inputs[0], 3)
    return inputs[0].dtype, (inputs[0].shape[0], *op.attrs["size"])


def _bilinear(op: Op, inputs: list[Value], consts: Consts) -> Result:
    demand_small(inputs[0])
    demand_rank(inputs[0], 3)
    return "int32", (inputs[0].shape[0], *op.attrs["size"])


def _bilinear_bounds(op: Op, inputs: list[Interval], shape: Any, consts: Consts) -> Interval:
    x, one = inputs[0].merged(), 1 << (2 * op.attrs["bits"])
    return within_int32(interval(int(x.low[0]) * one, int(x.high[0]) * one))


_TRAITS = frozenset({Trait.RESIZES, Trait.IMAGES})

KINDS = (
    Kind(
        name="resize_nearest",
        operands="x -> same",
        meaning="The pixel at floor(i * in / out) in each direction.",
        count=(1, 1),
        activations=every,
        attributes={"size": Ints(2, 1)},
        infer=_nearest,
        bounds=same_interval,
        step=lazy("qatspec.kinds.resizes.step:nearest"),
        onnx=lazy("qatspec.kinds.resizes.onnx:nearest"),
        traits=_TRAITS | {Trait.COMMUTES},
    ),
    Kind(
        name="resize_bilinear",
        operands="x -> int32",
        meaning="The weights are integers of `bits` fractional bits in each direction; the sum "
        "carries the scale 2^(2 * bits).",
        count=(1, 1),
        activations=every,
        attributes={"align_corners": Flag(), "bits": Int(1, 12), "size": Ints(2, 1)},
        infer=_bilinear,
        bounds=_bilinear_bounds,
        step=lazy("qatspec.kinds.resizes.step:bilinear"),
        onnx=lazy("qatspec.kinds.resizes.onnx:bilinear"),
        traits=_TRAITS,
    ),
)
