"""The referee of products of two activations, quotients, places and norms: int64, no floats."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

Attrs = Mapping[str, Any]
Ints = NDArray[np.int64]


def _product(a: Attrs, x: Ints, y: Ints) -> Ints:
    return np.asarray(x @ y)


def looked_up(a: Attrs, i: Ints, table: Ints, segments: Ints | None = None) -> Ints:
    """Entry i of a table. In segments of 256 entries, those that are not in it lie on the straight
    line between two that are."""
    if segments is None:
        return np.asarray(table[i])
    word = segments[i >> 8]
    shift, bits = word & 15, a.get("fraction_bits", 0)
    at, rest = (word >> 4) + ((i & 255) >> shift), i & ((1 << shift) - 1)
    after = np.minimum(at + 1, len(table) - 1)  # what is read where the rest is 0 does not count
    between = table[at] * ((1 << shift) - rest) + table[after] * rest
    return np.asarray((between + (1 << (shift + bits)) // 2) >> (shift + bits))


def _numerators(a: Attrs, x: Ints, *table: Ints) -> Ints:
    return looked_up(a, x.max(a["axis"], keepdims=True) - x, *table)


def _quotient(a: Attrs, x: Ints, y: Ints) -> Ints:
    above = x * a["multiplier"] * np.where(y < 0, -1, 1)
    below = np.maximum(np.abs(y), 1) << a["shift"]
    return np.clip(divide(above, below, a["rounding"]), a["low"], a["high"])


def divide(above: Ints, below: Ints, rounding: str) -> Ints:
    """above / below (positive), rounded to an integer."""
    if rounding == "floor":
        return above // below
    half_up = (2 * above + below) // (2 * below)
    tie = (2 * above + below) % (2 * below) == 0
    return half_up - (tie & (half_up % 2 == 1)) if rounding == "half_even" else half_up


def _standardized(a: Attrs, x: Ints) -> Ints:
    """(x - mean) / standard deviation over `axes`, with `bits` fraction bits: count * (x - mean)
    over the root of count^2 * variance, which has `root_bits` fraction bits."""
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


def _argmax(a: Attrs, x: Ints) -> Ints:
    return np.asarray(np.argmax(x, a["axis"], keepdims=a["keepdim"]))


EVALUATE: dict[str, Callable[..., Ints]] = {
    "matmul": _product,
    "exp_below_max": _numerators,
    "divide": _quotient,
    "standardize": _standardized,
    "affine": _scaled,
    "argmax": _argmax,
}
