"""Ops over what the input itself holds: products of two activations, quotients, places, norms.

What each takes and gives (`RULES`, for `signature`) and what it computes (`EVALUATE`, for the
referee: int64, no floats).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from qatspec.program.model import RANGE, DType, Op, Value
from qatspec.program.operands import (
    MAX_SHIFT,
    ROUNDINGS,
    Malformed,
    Result,
    need_const,
    need_count,
    need_small,
    take_bool,
    take_int,
    take_ints,
    take_word,
)

#: Fraction bits of a standardized number.
MAX_BITS = 24

Attrs = Mapping[str, Any]
Ints = NDArray[np.int64]
Consts = Mapping[str, Any]


def broadcast(a: tuple[int, ...], b: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of two operands of one rank, dims of 1 repeated. Raises Malformed."""
    if len(a) != len(b) or any(x != y and 1 not in (x, y) for x, y in zip(a, b, strict=True)):
        raise Malformed(f"shapes {a} and {b} do not broadcast")
    return tuple(max(x, y) for x, y in zip(a, b, strict=True))


# -- what they take and give -------------------------------------------------------------------


def _matmul(op: Op, inputs: list[Value], consts: Consts) -> Result:
    need_count(inputs, 2, 2)
    for value in inputs:
        need_small(value)
    a, b = (value.shape for value in inputs)
    if len(a) < 2 or len(a) != len(b) or a[-1] != b[-2]:
        raise Malformed(f"shapes {a} and {b} have no matrix product")
    return "int32", (*broadcast(a[:-2], b[:-2]), a[-2], b[-1])


def _exp_below_max(op: Op, inputs: list[Value], consts: Consts) -> Result:
    need_count(inputs, 2, 2)
    x, table = inputs
    need_small(x)
    dtype = take_word(op, "dtype", ("int8", "int16", "int32"))
    need_const(table, consts, (dtype,), 1)
    low, high = RANGE[x.dtype]
    if table.shape != (high - low + 1,):
        raise Malformed(f"the table must have {high - low + 1} entries")
    take_int(op, "axis", 1, len(x.shape))
    return cast(DType, dtype), x.shape


def _divide(op: Op, inputs: list[Value], consts: Consts) -> Result:
    need_count(inputs, 2, 2)
    if any(value.dtype == "int64" for value in inputs):
        raise Malformed("operands must be of 32 bits or fewer")
    dtype = take_word(op, "dtype", ("int4", "int8", "int16", "int32"))
    low, high = RANGE[dtype]
    if take_int(op, "low", low, high) > take_int(op, "high", low, high):
        raise Malformed("attribute `low` is above `high`")
    take_int(op, "multiplier", 0, 1 << MAX_SHIFT)
    take_int(op, "shift", 0, MAX_SHIFT)
    take_word(op, "rounding", ROUNDINGS)
    return cast(DType, dtype), broadcast(inputs[0].shape, inputs[1].shape)


def _standardize(op: Op, inputs: list[Value], consts: Consts) -> Result:
    need_count(inputs, 1, 1)
    need_small(inputs[0])
    axes = take_ints(op, "axes", None, 1, len(inputs[0].shape))
    if not axes or len(set(axes)) != len(axes):
        raise Malformed("attribute `axes` must name at least one dim, each once, never the batch")
    take_int(op, "epsilon", 0, 1 << 60)
    take_int(op, "bits", 0, MAX_BITS)
    take_int(op, "root_bits", 1, 16)
    return "int32", inputs[0].shape


def _affine(op: Op, inputs: list[Value], consts: Consts) -> Result:
    need_count(inputs, 3, 3)
    x, w, b = inputs
    size = (x.shape[take_int(op, "axis", 1, len(x.shape)) - 1],)
    need_const(w, consts, ("int8",), 1)
    need_const(b, consts, ("int32",), 1)
    if x.dtype == "int64" or w.shape != size or b.shape != size:
        raise Malformed(f"weight {w.shape} and bias {b.shape} must have {size[0]} entries")
    return "int32", x.shape


def _argmax(op: Op, inputs: list[Value], consts: Consts) -> Result:
    need_count(inputs, 1, 1)
    x = inputs[0]
    need_small(x)
    axis = take_int(op, "axis", 1, len(x.shape)) - 1
    kept = (1,) if take_bool(op, "keepdim") else ()
    return "int32", (*x.shape[:axis], *kept, *x.shape[axis + 1 :])


RULES: dict[str, Callable[[Op, list[Value], Consts], Result]] = {
    "matmul": _matmul,
    "exp_below_max": _exp_below_max,
    "divide": _divide,
    "standardize": _standardize,
    "affine": _affine,
    "argmax": _argmax,
}


# -- what they compute ---------------------------------------------------------------------------


def _product(a: Attrs, x: Ints, y: Ints) -> Ints:
    return np.asarray(x @ y)


def _numerators(a: Attrs, x: Ints, table: Ints) -> Ints:
    return np.asarray(table[x.max(a["axis"], keepdims=True) - x])


def _quotient(a: Attrs, x: Ints, y: Ints) -> Ints:
    above = x * a["multiplier"] * np.where(y < 0, -1, 1)
    below = np.abs(y) << a["shift"]
    rounded = divide(above, np.maximum(below, 1), a["rounding"])
    endless = np.select([above > 0, above < 0], [a["high"], a["low"]])
    return np.clip(np.where(below == 0, endless, rounded), a["low"], a["high"])


def divide(above: Ints, below: Ints, rounding: str) -> Ints:
    """above / below (positive), rounded to an integer."""
    if rounding == "floor":
        return above // below
    half_up = (2 * above + below) // (2 * below)
    tie = (2 * above + below) % (2 * below) == 0
    return half_up - (tie & (half_up % 2 == 1)) if rounding == "half_even" else half_up


def _standardized(a: Attrs, x: Ints) -> Ints:
    axes = tuple(a["axes"])
    count = prod(x.shape[axis] for axis in axes)
    total = x.sum(axes, keepdims=True)
    variance = count * (x * x).sum(axes, keepdims=True) - total * total
    root = np.maximum(floor_sqrt((variance + a["epsilon"]) << (2 * a["root_bits"])), 1)
    return divide((count * x - total) << (a["bits"] + a["root_bits"]), root, "half_up")


def floor_sqrt(v: Ints) -> Ints:
    """The largest integer whose square is at most v, bit by bit. 0 <= v < 2^62."""
    root = np.zeros_like(v)
    for bit in reversed(range(31)):
        larger = root | np.int64(1 << bit)
        root = np.where(larger * larger <= v, larger, root)
    return root


def _scaled(a: Attrs, x: Ints, w: Ints, b: Ints) -> Ints:
    along = [-1 if d == a["axis"] else 1 for d in range(x.ndim)]
    return x * w.reshape(along) + b.reshape(along)


def _place(a: Attrs, x: Ints) -> Ints:
    return np.asarray(np.argmax(x, a["axis"], keepdims=a["keepdim"]))


EVALUATE: dict[str, Callable[..., Ints]] = {
    "matmul": _product,
    "exp_below_max": _numerators,
    "divide": _quotient,
    "standardize": _standardized,
    "affine": _scaled,
    "argmax": _place,
}
