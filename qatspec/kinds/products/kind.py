"""Sums of products: convolutions, linear layers, and products of two activations."""

from __future__ import annotations

from typing import Any

import numpy as np

from qatspec.ir import Interval, Op, Value, interval, within_int32
from qatspec.kinds.attributes import (
    WEIGHTS,
    Int,
    Ints,
    Malformed,
    broadcast,
    demand_const,
    demand_rank,
    demand_small,
)
from qatspec.kinds.record import Consts, Kind, Result, Trait, every, first
from qatspec.kinds.window import windows
from qatspec.types import lazy


def _demand_bias(inputs: list[Value], consts: Consts, channels: int) -> None:
    if len(inputs) == 3:
        demand_const(inputs[2], consts, ("int32",), 1)
        if inputs[2].shape != (channels,):
            raise Malformed(f"bias `{inputs[2].name}` must have shape ({channels},)")


def _conv(op: Op, inputs: list[Value], consts: Consts) -> Result:
    x, w = inputs[:2]
    demand_small(x)
    demand_rank(x, 3)
    demand_const(w, consts, WEIGHTS, 4)
    a, (out, per_group, kh, kw) = op.attrs, w.shape
    if per_group * a["groups"] != x.shape[0] or out % a["groups"]:
        raise Malformed(
            f"{x.shape[0]} input channels do not fit weight {w.shape}, {a['groups']} groups"
        )
    _demand_bias(inputs, consts, out)
    return "int32", (out, *windows(x.shape, a, (kh, kw), a["dilation"]))


def _conv_transpose(op: Op, inputs: list[Value], consts: Consts) -> Result:
    x, w = inputs[:2]
    demand_small(x)
    demand_rank(x, 3)
    demand_const(w, consts, WEIGHTS, 4)
    stride, dilation, extra = (op.attrs[key] for key in ("stride", "dilation", "output_padding"))
    top, left, bottom, right = op.attrs["padding"]
    groups, (channels, per_group, kh, kw) = op.attrs["groups"], w.shape
    if channels != x.shape[0] or channels % groups:
        raise Malformed(f"{x.shape[0]} input channels do not fit weight {w.shape}, {groups} groups")
    if any(e >= max(s, d) for e, s, d in zip(extra, stride, dilation, strict=True)):
        raise Malformed("attribute `output_padding` must be smaller than stride or dilation")
    _demand_bias(inputs, consts, per_group * groups)
    h = (x.shape[1] - 1) * stride[0] - top - bottom + dilation[0] * (kh - 1) + extra[0] + 1
    width = (x.shape[2] - 1) * stride[1] - left - right + dilation[1] * (kw - 1) + extra[1] + 1
    return "int32", (per_group * groups, h, width)


def _linear(op: Op, inputs: list[Value], consts: Consts) -> Result:
    x, w = inputs[:2]
    demand_small(x)
    demand_const(w, consts, WEIGHTS, 2)
    if not x.shape or x.shape[-1] != w.shape[1]:
        raise Malformed(f"operand {x.shape} does not fit weight {w.shape}")
    _demand_bias(inputs, consts, w.shape[0])
    return "int32", (*x.shape[:-1], w.shape[0])


def _matmul(op: Op, inputs: list[Value], consts: Consts) -> Result:
    for value in inputs:
        demand_small(value)
    a, b = (value.shape for value in inputs)
    if len(a) < 2 or len(a) != len(b) or a[-1] != b[-2]:
        raise Malformed(f"shapes {a} and {b} have no matrix product")
    return "int32", (*broadcast(a[:-2], b[:-2]), a[-2], b[-1])


# -- bounds ----------------------------------------------------------------------------------------


def _accumulator(weight: np.ndarray, op: Op, x: Interval, axis: int, consts: Consts) -> Interval:
    """Per output channel, and bounding every partial sum as well: each holds 0 and the bias.
    weight: integers (O, everything that meets an output). They are summed without a wider copy:
    those of a large linear layer take a gigabyte as int64."""
    low, high = min(int(x.low.min()), 0), max(int(x.high.max()), 0)
    b = consts[op.inputs[2]].astype(np.int64) if len(op.inputs) == 3 else np.zeros(1, np.int64)
    above = np.maximum(weight, 0).sum(1, dtype=np.int64)
    below = np.minimum(weight, 0).sum(1, dtype=np.int64)
    least = low * above + high * below + np.minimum(b, 0)
    most = high * above + low * below + np.maximum(b, 0)
    return within_int32(Interval(least, most, axis))


def _conv_bounds(op: Op, inputs: list[Interval], shape: Any, consts: Consts) -> Interval:
    w = consts[op.inputs[1]]
    return _accumulator(w.reshape(w.shape[0], -1), op, inputs[0], 1, consts)


def _conv_transpose_bounds(op: Op, inputs: list[Interval], shape: Any, consts: Consts) -> Interval:
    w = consts[op.inputs[1]]  # (I, O/g, kh, kw)
    groups = op.attrs["groups"]
    w = w.reshape(groups, w.shape[0] // groups, w.shape[1], -1).transpose(0, 2, 1, 3)
    return _accumulator(w.reshape(w.shape[0] * w.shape[1], -1), op, inputs[0], 1, consts)


def _linear_bounds(op: Op, inputs: list[Interval], shape: Any, consts: Consts) -> Interval:
    w = consts[op.inputs[1]]
    return _accumulator(w, op, inputs[0], len(shape), consts)


def _matmul_bounds(op: Op, inputs: list[Interval], shape: Any, consts: Consts) -> Interval:
    """Every partial sum as well: it holds 0."""
    x, y = (i.merged() for i in inputs)
    corners = [0, *(int(a[0]) * int(b[0]) for a in (x.low, x.high) for b in (y.low, y.high))]
    return within_int32(interval(min(corners) * shape[-1], max(corners) * shape[-1]))


_WINDOW = {"stride": Ints(2, 1), "padding": Ints(4, 0), "dilation": Ints(2, 1)}

KINDS = (
    Kind(
        name="conv",
        operands="x, w (O, I/g, kh, kw) int8|int16|int4, [b (O) int32] -> int32",
        meaning="A convolution. Padding (top, left, bottom, right) is filled with 0.",
        count=(2, 3),
        activations=first,
        attributes={**_WINDOW, "groups": Int(1)},
        infer=_conv,
        bounds=_conv_bounds,
        step=lazy("qatspec.kinds.products.step:conv"),
        onnx=lazy("qatspec.kinds.products.onnx:conv"),
        traits=frozenset({Trait.WEIGHTED, Trait.WINDOWED, Trait.IMAGES, Trait.BYTE_KERNEL}),
    ),
    Kind(
        name="conv_transpose",
        operands="x, w (I, O/g, kh, kw), [b (O) int32] -> int32",
        meaning="A transposed convolution.",
        count=(2, 3),
        activations=first,
        attributes={**_WINDOW, "output_padding": Ints(2, 0), "groups": Int(1)},
        infer=_conv_transpose,
        bounds=_conv_transpose_bounds,
        step=lazy("qatspec.kinds.products.step:conv_transpose"),
        onnx=lazy("qatspec.kinds.products.onnx:conv_transpose"),
        traits=frozenset({Trait.WEIGHTED, Trait.IMAGES, Trait.INPUTS_FIRST}),
    ),
    Kind(
        name="linear",
        operands="x (..., I), w (O, I), [b (O) int32] -> int32",
        meaning="A matrix product over the last dim.",
        count=(2, 3),
        activations=first,
        attributes={},
        infer=_linear,
        bounds=_linear_bounds,
        step=lazy("qatspec.kinds.products.step:linear"),
        onnx=lazy("qatspec.kinds.products.onnx:linear"),
        traits=frozenset({Trait.WEIGHTED, Trait.LAST_DIM, Trait.BYTE_KERNEL}),
    ),
    Kind(
        name="matmul",
        operands="x (..., M, K), y (..., K, N) of one rank -> int32",
        meaning="The product of two activations; the dims in front are broadcast.",
        count=(2, 2),
        activations=every,
        attributes={},
        infer=_matmul,
        bounds=_matmul_bounds,
        step=lazy("qatspec.kinds.products.step:matmul"),
        onnx=lazy("qatspec.kinds.products.onnx:matmul"),
        traits=frozenset({Trait.LAST_TWO_DIMS}),
    ),
)
