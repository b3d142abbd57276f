"""Moves: ops that put integers elsewhere and compute none."""

from __future__ import annotations

from math import prod
from typing import Any

from qatspec.ir import Interval, Op, Value, interval
from qatspec.kinds.attributes import (
    LIMIT,
    Axis,
    Int,
    Ints,
    Level,
    Malformed,
    Permutation,
    demand_rank,
)
from qatspec.kinds.record import Consts, Kind, Result, Trait, every, same_interval
from qatspec.types import lazy

#: Most operands of a concatenation.
MOST_PARTS = 4096


def _concat(op: Op, inputs: list[Value], consts: Consts) -> Result:
    first, axis = inputs[0], op.attrs["axis"] - 1
    for value in inputs[1:]:
        same = value.dtype == first.dtype and len(value.shape) == len(first.shape)
        if not same or any(
            a != b
            for i, (a, b) in enumerate(zip(value.shape, first.shape, strict=True))
            if i != axis
        ):
            raise Malformed(f"operand `{value.name}` does not fit `{first.name}`")
    total = sum(value.shape[axis] for value in inputs)
    return first.dtype, (*first.shape[:axis], total, *first.shape[axis + 1 :])


def _concat_bounds(op: Op, inputs: list[Interval], shape: Any, consts: Consts) -> Interval:
    parts = [i.merged() for i in inputs]
    return interval(min(int(p.low[0]) for p in parts), max(int(p.high[0]) for p in parts))


def _reshape(op: Op, inputs: list[Value], consts: Consts) -> Result:
    shape = tuple(op.attrs["shape"])
    if prod(shape) != prod(inputs[0].shape):
        raise Malformed(f"{inputs[0].shape} does not reshape to {shape}")
    return inputs[0].dtype, shape


def _transpose(op: Op, inputs: list[Value], consts: Consts) -> Result:
    return inputs[0].dtype, tuple(inputs[0].shape[p - 1] for p in op.attrs["perm"][1:])


def _slice(op: Op, inputs: list[Value], consts: Consts) -> Result:
    a, shape = op.attrs, inputs[0].shape
    axis = a["axis"] - 1
    for name in ("start", "stop"):
        if a[name] > shape[axis]:
            raise Malformed(f"attribute `{name}` is {a[name]}, dim {axis + 1} has {shape[axis]}")
    size = len(range(a["start"], a["stop"], a["step"]))
    return inputs[0].dtype, (*shape[:axis], size, *shape[axis + 1 :])


def _pad(op: Op, inputs: list[Value], consts: Consts) -> Result:
    demand_rank(inputs[0], 3)
    top, left, bottom, right = op.attrs["padding"]
    c, h, w = inputs[0].shape
    return inputs[0].dtype, (c, h + top + bottom, w + left + right)


def _pad_bounds(op: Op, inputs: list[Interval], shape: Any, consts: Consts) -> Interval:
    x, value = inputs[0].merged(), op.attrs["value"]
    return interval(min(int(x.low[0]), value), max(int(x.high[0]), value))


_COMMUTES = frozenset({Trait.COMMUTES})
_REARRANGES = frozenset({Trait.COMMUTES, Trait.REARRANGES})

KINDS = (
    Kind(
        name="concat",
        operands="x1..xn -> same",
        meaning="The operands one behind the other along `axis`.",
        count=(1, MOST_PARTS),
        activations=every,
        attributes={"axis": Axis()},
        infer=_concat,
        bounds=_concat_bounds,
        step=lazy("qatspec.kinds.moves.step:concat"),
        onnx=lazy("qatspec.kinds.moves.onnx:concat"),
        traits=_COMMUTES,
    ),
    Kind(
        name="reshape",
        operands="x -> same",
        meaning="The same integers in the dims `shape` (without the batch).",
        count=(1, 1),
        activations=every,
        attributes={"shape": Ints(None, 1)},
        infer=_reshape,
        bounds=same_interval,
        step=lazy("qatspec.kinds.moves.step:reshape"),
        onnx=lazy("qatspec.kinds.moves.onnx:reshape"),
        traits=_REARRANGES,
    ),
    Kind(
        name="transpose",
        operands="x -> same",
        meaning="The dims in the order `perm` (with the batch, which stays in front).",
        count=(1, 1),
        activations=every,
        attributes={"perm": Permutation()},
        infer=_transpose,
        bounds=same_interval,
        step=lazy("qatspec.kinds.moves.step:transpose"),
        onnx=lazy("qatspec.kinds.moves.onnx:transpose"),
        traits=_REARRANGES,
    ),
    Kind(
        name="slice",
        operands="x -> same",
        meaning="The places start, start + step, ... before stop along `axis`.",
        count=(1, 1),
        activations=every,
        attributes={"axis": Axis(), "start": Int(0), "stop": Int(0), "step": Int(1, LIMIT)},
        infer=_slice,
        bounds=same_interval,
        step=lazy("qatspec.kinds.moves.step:slice_"),
        onnx=lazy("qatspec.kinds.moves.onnx:slice_"),
        traits=_REARRANGES,
    ),
    Kind(
        name="pad",
        operands="x -> same",
        meaning="The integer `value` around the image: padding (top, left, bottom, right).",
        count=(1, 1),
        activations=every,
        attributes={"padding": Ints(4, 0), "value": Level()},
        infer=_pad,
        bounds=_pad_bounds,
        step=lazy("qatspec.kinds.moves.step:pad"),
        onnx=lazy("qatspec.kinds.moves.onnx:pad"),
        traits=frozenset({Trait.IMAGES}),
    ),
)
