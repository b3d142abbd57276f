"""What every op kind takes and gives: operand dtypes, attributes, result dtype and shape.

One table serves the builder (which derives results), verify (which compares them) and hostile
files (whose attributes may be anything).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any, cast

from qatspec.program import statistics
from qatspec.program.model import RANGE, DType, Op, Value
from qatspec.program.operands import (
    LIMIT,
    MAX_SHIFT,
    ROUNDINGS,
    SMALL,
    Malformed,
    Result,
    need_const,
    need_count,
    need_rank,
    need_small,
    take_bool,
    take_int,
    take_ints,
    take_word,
)


def infer(op: Op, inputs: Sequence[Value], consts: Mapping[str, Any]) -> Result:
    """The (dtype, shape) that `op` gives. Raises Malformed."""
    rule = _RULES.get(op.kind)
    if rule is None:
        raise Malformed(f"unknown kind `{op.kind}`")
    dtype, shape = rule(op, list(inputs), consts)
    for value in inputs[: _activations(op.kind, len(inputs))]:
        if value.name in consts:
            raise Malformed(f"operand `{value.name}` is a constant, and constants have no batch")
    if any(d < 1 for d in shape) or prod(shape) > LIMIT:
        raise Malformed(f"a result of shape {shape} is empty or too large")
    return dtype, shape


def _bias(inputs: list[Value], consts: Mapping[str, Any], channels: int) -> None:
    if len(inputs) == 3:
        need_const(inputs[2], consts, ("int32",), 1)
        if inputs[2].shape != (channels,):
            raise Malformed(f"bias `{inputs[2].name}` must have shape ({channels},)")


def _window(size: int, before: int, after: int, kernel: int, dilation: int, stride: int) -> int:
    return (size + before + after - dilation * (kernel - 1) - 1) // stride + 1


# -- kinds -----------------------------------------------------------------------------------


def _conv(op: Op, inputs: list[Value], consts: Mapping[str, Any]) -> Result:
    need_count(inputs, 2, 3)
    x, w = inputs[:2]
    need_small(x)
    need_rank(x, 3)
    need_const(w, consts, SMALL, 4)
    stride, dilation = take_ints(op, "stride", 2, 1), take_ints(op, "dilation", 2, 1)
    top, left, bottom, right = take_ints(op, "padding", 4, 0)
    groups = take_int(op, "groups", 1)
    out, per_group, kh, kw = w.shape
    if per_group * groups != x.shape[0] or out % groups:
        raise Malformed(f"{x.shape[0]} input channels do not fit weight {w.shape}, {groups} groups")
    _bias(inputs, consts, out)
    h = _window(x.shape[1], top, bottom, kh, dilation[0], stride[0])
    return "int32", (out, h, _window(x.shape[2], left, right, kw, dilation[1], stride[1]))


def _conv_transpose(op: Op, inputs: list[Value], consts: Mapping[str, Any]) -> Result:
    need_count(inputs, 2, 3)
    x, w = inputs[:2]
    need_small(x)
    need_rank(x, 3)
    need_const(w, consts, SMALL, 4)
    stride, dilation = take_ints(op, "stride", 2, 1), take_ints(op, "dilation", 2, 1)
    top, left, bottom, right = take_ints(op, "padding", 4, 0)
    extra = take_ints(op, "output_padding", 2, 0)
    groups = take_int(op, "groups", 1)
    channels, per_group, kh, kw = w.shape
    if channels != x.shape[0] or channels % groups:
        raise Malformed(f"{x.shape[0]} input channels do not fit weight {w.shape}, {groups} groups")
    if any(e >= max(s, d) for e, s, d in zip(extra, stride, dilation, strict=True)):
        raise Malformed("attribute `output_padding` must be smaller than stride or dilation")
    _bias(inputs, consts, per_group * groups)
    h = (x.shape[1] - 1) * stride[0] - top - bottom + dilation[0] * (kh - 1) + extra[0] + 1
    width = (x.shape[2] - 1) * stride[1] - left - right + dilation[1] * (kw - 1) + extra[1] + 1
    return "int32", (per_group * groups, h, width)


def _linear(op: Op, inputs: list[Value], consts: Mapping[str, Any]) -> Result:
    need_count(inputs, 2, 3)
    x, w = inputs[:2]
    need_small(x)
    need_const(w, consts, SMALL, 2)
    if not x.shape or x.shape[-1] != w.shape[1]:
        raise Malformed(f"operand {x.shape} does not fit weight {w.shape}")
    _bias(inputs, consts, w.shape[0])
    return "int32", (*x.shape[:-1], w.shape[0])


def _requant(op: Op, inputs: list[Value], consts: Mapping[str, Any]) -> Result:
    terms, rest = divmod(len(inputs) - 1, 2)
    if rest or not 1 <= terms <= 64:
        raise Malformed("takes x1..xn, m1..mn and one shift")
    shape = inputs[0].shape
    dtype = take_word(op, "dtype", ("int4", "int8", "int16", "int32"))
    low, high = RANGE[dtype]
    if take_int(op, "low", low, high) > take_int(op, "high", low, high):
        raise Malformed("attribute `low` is above `high`")
    take_word(op, "rounding", ROUNDINGS)
    axis = take_int(op, "axis", 1, max(len(shape), 1))
    for x in inputs[:terms]:
        if x.shape != shape or x.dtype == "int64":
            raise Malformed(f"operand `{x.name}` must be an int32 or smaller of shape {shape}")
    for c in inputs[terms:]:
        need_const(c, consts, ("int64",), 1)
        if c.shape[0] not in (1, shape[axis - 1] if shape else 1):
            raise Malformed(f"`{c.name}` has {c.shape[0]} entries; axis {axis} of {shape} does not")
    shift = consts[inputs[-1].name]
    if shift.min() < 0 or shift.max() > MAX_SHIFT:
        raise Malformed(f"the shift must be in [0, {MAX_SHIFT}]")
    return cast(DType, dtype), shape


def _mul(op: Op, inputs: list[Value], consts: Mapping[str, Any]) -> Result:
    need_count(inputs, 2, 2)
    for value in inputs:
        need_small(value)
    return "int32", statistics.broadcast(inputs[0].shape, inputs[1].shape)


def _clamp(op: Op, inputs: list[Value], consts: Mapping[str, Any]) -> Result:
    need_count(inputs, 1, 1)
    low, high = RANGE[inputs[0].dtype]
    if take_int(op, "low", low, high) > take_int(op, "high", low, high):
        raise Malformed("attribute `low` is above `high`")
    return inputs[0].dtype, inputs[0].shape


def _pool(op: Op, x: Value, dilation: tuple[int, ...]) -> tuple[int, ...]:
    need_rank(x, 3)
    kernel, stride = take_ints(op, "kernel", 2, 1), take_ints(op, "stride", 2, 1)
    top, left, bottom, right = take_ints(op, "padding", 4, 0)
    reach = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
    if max(top, bottom) >= reach[0] or max(left, right) >= reach[1]:
        raise Malformed("the padding is as wide as the window")
    h = _window(x.shape[1], top, bottom, kernel[0], dilation[0], stride[0])
    return x.shape[0], h, _window(x.shape[2], left, right, kernel[1], dilation[1], stride[1])


def _max_pool(op: Op, inputs: list[Value], consts: Mapping[str, Any]) -> Result:
    need_count(inputs, 1, 1)
    need_small(inputs[0])
    return inputs[0].dtype, _pool(op, inputs[0], take_ints(op, "dilation", 2, 1))


def _sum_pool(op: Op, inputs: list[Value], consts: Mapping[str, Any]) -> Result:
    need_count(inputs, 1, 1)
    need_small(inputs[0])
    return "int32", _pool(op, inputs[0], (1, 1))


def _reduced(op: Op, x: Value) -> tuple[int, ...]:
    axes = take_ints(op, "axes", None, 1, len(x.shape))
    if not axes or len(set(axes)) != len(axes):
        raise Malformed("attribute `axes` must name at least one dim, each once, never the batch")
    keep = take_bool(op, "keepdim")
    kept = [1 if i in axes else d for i, d in enumerate(x.shape, 1) if keep or i not in axes]
    return tuple(kept)


def _reduce_sum(op: Op, inputs: list[Value], consts: Mapping[str, Any]) -> Result:
    need_count(inputs, 1, 1)
    return "int32", _reduced(op, inputs[0])


def _reduce_max(op: Op, inputs: list[Value], consts: Mapping[str, Any]) -> Result:
    need_count(inputs, 1, 1)
    need_small(inputs[0])
    return inputs[0].dtype, _reduced(op, inputs[0])


def _resize_nearest(op: Op, inputs: list[Value], consts: Mapping[str, Any]) -> Result:
    need_count(inputs, 1, 1)
    need_rank(inputs[0], 3)
    return inputs[0].dtype, (inputs[0].shape[0], *take_ints(op, "size", 2, 1))


def _resize_bilinear(op: Op, inputs: list[Value], consts: Mapping[str, Any]) -> Result:
    need_count(inputs, 1, 1)
    need_small(inputs[0])
    need_rank(inputs[0], 3)
    take_bool(op, "align_corners")
    take_int(op, "bits", 1, 12)
    return "int32", (inputs[0].shape[0], *take_ints(op, "size", 2, 1))


def _concat(op: Op, inputs: list[Value], consts: Mapping[str, Any]) -> Result:
    need_count(inputs, 1, 4096)
    first = inputs[0]
    axis = take_int(op, "axis", 1, len(first.shape)) - 1
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


def _reshape(op: Op, inputs: list[Value], consts: Mapping[str, Any]) -> Result:
    need_count(inputs, 1, 1)
    shape = take_ints(op, "shape", None, 1)
    if prod(shape) != prod(inputs[0].shape):
        raise Malformed(f"{inputs[0].shape} does not reshape to {shape}")
    return inputs[0].dtype, shape


def _transpose(op: Op, inputs: list[Value], consts: Mapping[str, Any]) -> Result:
    need_count(inputs, 1, 1)
    rank = len(inputs[0].shape)
    perm = take_ints(op, "perm", rank + 1, 0, rank)
    if perm[0] != 0 or len(set(perm)) != len(perm):
        raise Malformed("attribute `perm` must be a permutation that keeps the batch first")
    return inputs[0].dtype, tuple(inputs[0].shape[p - 1] for p in perm[1:])


def _slice(op: Op, inputs: list[Value], consts: Mapping[str, Any]) -> Result:
    need_count(inputs, 1, 1)
    shape = inputs[0].shape
    axis = take_int(op, "axis", 1, len(shape)) - 1
    start, stop = take_int(op, "start", 0, shape[axis]), take_int(op, "stop", 0, shape[axis])
    size = len(range(start, stop, take_int(op, "step", 1)))
    return inputs[0].dtype, (*shape[:axis], size, *shape[axis + 1 :])


def _pad(op: Op, inputs: list[Value], consts: Mapping[str, Any]) -> Result:
    need_count(inputs, 1, 1)
    need_rank(inputs[0], 3)
    top, left, bottom, right = take_ints(op, "padding", 4, 0)
    take_int(op, "value", *RANGE[inputs[0].dtype])
    c, h, w = inputs[0].shape
    return inputs[0].dtype, (c, h + top + bottom, w + left + right)


def _lut(op: Op, inputs: list[Value], consts: Mapping[str, Any]) -> Result:
    need_count(inputs, 2, 2)
    x, table = inputs
    need_small(x)
    dtype = take_word(op, "dtype", ("int4", "int8", "int16", "int32"))
    need_const(table, consts, (dtype,), 1)
    low, high = RANGE[x.dtype]
    if table.shape != (high - low + 1,):
        raise Malformed(f"the table must have {high - low + 1} entries")
    return cast(DType, dtype), x.shape


_RULES: dict[str, Callable[[Op, list[Value], Mapping[str, Any]], Result]] = {
    "conv": _conv,
    "conv_transpose": _conv_transpose,
    "linear": _linear,
    "requant": _requant,
    "mul": _mul,
    "clamp": _clamp,
    "max_pool": _max_pool,
    "sum_pool": _sum_pool,
    "reduce_sum": _reduce_sum,
    "reduce_max": _reduce_max,
    "resize_nearest": _resize_nearest,
    "resize_bilinear": _resize_bilinear,
    "concat": _concat,
    "reshape": _reshape,
    "transpose": _transpose,
    "slice": _slice,
    "pad": _pad,
    "lut": _lut,
    **statistics.RULES,
}

#: Kinds whose operands behind the first are constants.
_ONE_ACTIVATION = ("conv", "conv_transpose", "linear", "lut", "exp_below_max", "affine")


def _activations(kind: str, operands: int) -> int:
    """How many operands come first that are no constants."""
    if kind == "requant":
        return operands // 2
    return 1 if kind in _ONE_ACTIVATION else operands


#: Every op kind, in the order of the docstring of `qatspec.program.model`.
KINDS = tuple(_RULES)
