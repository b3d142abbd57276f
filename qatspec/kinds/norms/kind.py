"""Norms over the input's own statistics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isqrt, prod
from typing import Any

from qatspec.ir import Interval, Op, Overflow, Value, interval, within_int32
from qatspec.kinds.attributes import Axes, Int, demand_small
from qatspec.kinds.record import Consts, Kind, Result, every
from qatspec.types import lazy

#: Most fraction bits of a standardized number.
MAX_BITS = 24
#: What int64 arithmetic is kept below.
WIDE = 2**62


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


def _standardize(op: Op, inputs: list[Value], consts: Consts) -> Result:
    demand_small(inputs[0])
    return "int32", inputs[0].shape


def _bounds(op: Op, inputs: list[Interval], shape: Any, consts: Consts) -> Interval:
    count = prod(shape[axis - 1] for axis in op.attrs["axes"])
    reach = standardize_reach(op.attrs, count, inputs[0].merged())
    if max(reach.sums, reach.square, 2 * (reach.above + reach.below)) >= WIDE:
        raise Overflow(f"the squares of {count} numbers of up to {inputs[0].magnitude} leave 2^62")
    return within_int32(interval(-reach.result, reach.result))


KINDS = (
    Kind(
        name="standardize",
        operands="x -> int32",
        meaning="With n integers along axes, their sum S and u = n * x - S: "
        "floor(u * 2^(bits + root_bits) / r + 1/2), where r = floor(sqrt((v + epsilon) * "
        "4^root_bits)), at least 1, of n^2 times their variance v = n * sum(x^2) - S^2: a norm "
        "over the input's own statistics, in steps of 2^-bits.",
        count=(1, 1),
        activations=every,
        attributes={
            "axes": Axes(),
            "epsilon": Int(0, 1 << 60),
            "bits": Int(0, MAX_BITS),
            "root_bits": Int(1, 16),
        },
        infer=_standardize,
        bounds=_bounds,
        step=lazy("qatspec.kinds.norms.step:standardize"),
        onnx=lazy("qatspec.kinds.norms.onnx:standardize"),
    ),
)
