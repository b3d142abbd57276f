"""Interval analysis: what every value of a Program can hold, proven from its constants.

It carries every claim of exactness: int32 accumulators that cannot overflow, requantization below
2^53 (contracts 17), and the executor's choice between float32 and float64 carriers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import isqrt, prod
from typing import Any

import numpy as np

from qatspec.program.model import RANGE, Op, Program

#: float64 (float32) holds every integer up to this exactly.
EXACT64 = 2**53
EXACT32 = 2**24


class Overflow(ValueError):
    """A sum may leave its accumulator; the message gives the bound."""


@dataclass(frozen=True, slots=True)
class Interval:
    """low <= value <= high. int64 of shape (1,), or (C,) per channel along `axis` (counted
    with the batch)."""

    low: np.ndarray
    high: np.ndarray
    axis: int = 1

    @property
    def magnitude(self) -> int:
        """The largest absolute value."""
        return int(max(abs(int(self.low.min())), abs(int(self.high.max()))))

    def merged(self) -> Interval:
        """One interval for all channels."""
        return Interval(self.low.min(keepdims=True), self.high.max(keepdims=True))


def interval(low: int, high: int) -> Interval:
    """The same bounds for every channel."""
    return Interval(np.array([low], np.int64), np.array([high], np.int64))


def ranges(program: Program) -> dict[str, Interval]:
    """The interval of every value. Raises Overflow where an op's result may leave its dtype or a
    requantization 2^53. The program must be well-formed (`signature.infer`)."""
    found = {port.name: interval(*RANGE[port.dtype]) for port in program.inputs}
    for name, array in program.consts.items():
        found[name] = interval(int(array.min()), int(array.max()))
    for op in program.ops:
        shape = program.values[op.inputs[0]].shape
        found[op.output] = op_range(op, [found[i] for i in op.inputs], shape, program.consts)
    return found


def op_range(
    op: Op, inputs: list[Interval], shape: tuple[int, ...], consts: Mapping[str, np.ndarray]
) -> Interval:
    """The interval of one op's result; see `ranges`. shape: of the first operand."""
    x = inputs[0]
    if op.kind in ("conv", "conv_transpose", "linear"):
        axis = len(shape) if op.kind == "linear" else 1
        return _accumulator(op, x.merged(), axis, consts)
    if op.kind == "requant":
        _requant(op, inputs, consts)
        return interval(op.attrs["low"], op.attrs["high"])
    if op.kind == "clamp":
        low, high = op.attrs["low"], op.attrs["high"]
        return Interval(np.clip(x.low, low, high), np.clip(x.high, low, high)).merged()
    x = x.merged()
    if op.kind == "mul":
        y = inputs[1].merged()
        corners = [int(a[0]) * int(b[0]) for a in (x.low, x.high) for b in (y.low, y.high)]
        return _int32(interval(min(corners), max(corners)))
    if op.kind == "sum_pool":
        return _times(x, op.attrs["kernel"][0] * op.attrs["kernel"][1], padded=True)
    if op.kind == "reduce_sum":
        return _times(x, prod(shape[a - 1] for a in op.attrs["axes"]), padded=False)
    if op.kind == "resize_bilinear":
        return _times(x, 1 << (2 * op.attrs["bits"]), padded=False)
    if op.kind == "concat":
        parts = [i.merged() for i in inputs]
        return interval(min(int(p.low[0]) for p in parts), max(int(p.high[0]) for p in parts))
    if op.kind == "pad":
        value = op.attrs["value"]
        return interval(min(int(x.low[0]), value), max(int(x.high[0]), value))
    if op.kind in ("lut", "exp_below_max"):
        table = consts[op.inputs[1]]
        return interval(int(table.min()), int(table.max()))
    if op.kind in _OWN_STATISTICS:
        return _OWN_STATISTICS[op.kind](op, [i.merged() for i in inputs], shape, consts)
    return x  # max_pool, reduce_max, resize_nearest, reshape, transpose, slice


def _accumulator(op: Op, x: Interval, axis: int, consts: Mapping[str, np.ndarray]) -> Interval:
    """Per output channel, and bounding every partial sum as well: each holds 0 and the bias."""
    w = consts[op.inputs[1]].astype(np.int64)
    if op.kind == "conv_transpose":  # (I, O/g, kh, kw) -> (O, everything that meets it)
        groups = op.attrs["groups"]
        w = w.reshape(groups, w.shape[0] // groups, w.shape[1], -1).transpose(0, 2, 1, 3)
        w = w.reshape(w.shape[0] * w.shape[1], -1)
    w = w.reshape(w.shape[0], -1)
    low, high = min(int(x.low[0]), 0), max(int(x.high[0]), 0)
    b = consts[op.inputs[2]].astype(np.int64) if len(op.inputs) == 3 else np.zeros(1, np.int64)
    least = np.minimum(w * low, w * high).sum(1) + np.minimum(b, 0)
    most = np.maximum(w * low, w * high).sum(1) + np.maximum(b, 0)
    return _int32(Interval(least, most, axis))


def _requant(op: Op, inputs: list[Interval], consts: Mapping[str, np.ndarray]) -> None:
    terms = len(inputs) // 2
    bound = requant_bound(
        [(inputs[i], consts[op.inputs[terms + i]]) for i in range(terms)],
        consts[op.inputs[-1]],
        op.attrs["axis"],
    )
    if bound.max() >= EXACT64:
        raise Overflow(f"the requantization may reach {bound.max():.4g}, 2^53 is {EXACT64:.4g}")


def requant_bound(
    terms: list[tuple[Interval, np.ndarray]], shift: np.ndarray, axis: int
) -> np.ndarray[Any, np.dtype[np.float64]]:
    """max |sum x_i * m_i| + 2^(shift-1) per channel, in float64. Below 2^53 it is exact; rounding
    is monotone, so a sum that reaches 2^53 never seems smaller."""
    total = np.exp2(shift.astype(np.float64)) / 2
    for x, m in terms:
        x = x if x.axis == axis else x.merged()
        reach = np.maximum(np.abs(x.low.astype(np.float64)), np.abs(x.high.astype(np.float64)))
        with np.errstate(over="ignore"):  # infinity is above 2^53 as well
            total = total + reach * np.abs(m.astype(np.float64))
    return np.asarray(total)


def _times(x: Interval, count: int, *, padded: bool) -> Interval:
    low, high = int(x.low[0]), int(x.high[0])
    if padded:
        low, high = min(low, 0), max(high, 0)
    return _int32(interval(low * count, high * count))


def _int32(result: Interval) -> Interval:
    low, high = RANGE["int32"]
    if result.low.min() < low or result.high.max() > high:
        raise Overflow(
            f"the accumulator may reach [{int(result.low.min())}, {int(result.high.max())}], "
            "int32 holds no more than +-2^31"
        )
    return result


# -- ops over what the input itself holds ------------------------------------------------------

#: What int64 arithmetic is kept below.
WIDE = 2**62


def _matmul(op: Op, inputs: list[Interval], shape: Any, consts: Any) -> Interval:
    """Every partial sum as well: it holds 0."""
    x, y = inputs
    corners = [0, *(int(a[0]) * int(b[0]) for a in (x.low, x.high) for b in (y.low, y.high))]
    return _int32(interval(min(corners) * shape[-1], max(corners) * shape[-1]))


def _divide(op: Op, inputs: list[Interval], shape: Any, consts: Any) -> Interval:
    """A quarter of 2^53: float64 then rounds each quotient as the exact one is rounded."""
    x, y = (i.magnitude for i in inputs)
    divisor = y << op.attrs["shift"]
    if x * op.attrs["multiplier"] + divisor >= EXACT64 // 4:
        raise Overflow(f"the division of {x} by {y} may reach 2^51 on the way")
    return interval(op.attrs["low"], op.attrs["high"])


@dataclass(frozen=True, slots=True)
class StandardizeReach:
    """What the integers of a `standardize` stay at or below: count^2 times the squares, the squared
    root, the dividend, the divisor, the result."""

    sums: int
    square: int
    above: int
    below: int
    result: int


def standardize_reach(attrs: Mapping[str, Any], count: int, x: Interval) -> StandardizeReach:
    """Of `count` integers in x.

    |u| <= sqrt((n - 1) v) of any n numbers (Samuelson 1968), and v is 0 or at least n - 1, so that
    flooring the root makes u / sqrt(v) larger by 1 at most. |u| <= spread, and the root is at least
    that of epsilon."""
    spread = count * (int(x.high.max()) - int(x.low.min()))
    square = (spread**2 // 4 + attrs["epsilon"]) << (2 * attrs["root_bits"])
    above = spread << (attrs["bits"] + attrs["root_bits"])
    least = isqrt(attrs["epsilon"] << (2 * attrs["root_bits"]))
    result = min((isqrt(count) + 3) << attrs["bits"], above // max(least, 1) + 1)
    return StandardizeReach(count**2 * x.magnitude**2, square, above, isqrt(square) + 1, result)


def _standardize(op: Op, inputs: list[Interval], shape: Any, consts: Any) -> Interval:
    count = prod(shape[axis - 1] for axis in op.attrs["axes"])
    reach = standardize_reach(op.attrs, count, inputs[0])
    if max(reach.sums, reach.square, 2 * (reach.above + reach.below)) >= WIDE:
        raise Overflow(f"the squares of {count} numbers of up to {inputs[0].magnitude} leave 2^62")
    return _int32(interval(-reach.result, reach.result))


def _affine(op: Op, inputs: list[Interval], shape: Any, consts: Any) -> Interval:
    """Bounding the product before the bias as well."""
    w, b = (consts[name].astype(np.int64) for name in op.inputs[1:])
    ends = np.stack([w * int(inputs[0].low[0]), w * int(inputs[0].high[0])])
    low, high = ends.min(0) + np.minimum(b, 0), ends.max(0) + np.maximum(b, 0)
    return _int32(Interval(low, high, op.attrs["axis"]))


def _argmax(op: Op, inputs: list[Interval], shape: Any, consts: Any) -> Interval:
    return interval(0, shape[op.attrs["axis"] - 1] - 1)


_OWN_STATISTICS: dict[str, Callable[..., Interval]] = {
    "matmul": _matmul,
    "divide": _divide,
    "standardize": _standardize,
    "affine": _affine,
    "argmax": _argmax,
}
