"""Loops over rows that numba compiles, where it is installed (`qatspec[fast]`).

torch takes a pass over memory for each operation, these loops take one for a chain of ops. They
compute in float64 what the steps in torch compute there, with the same roundings or fewer, so that
the same bounds prove them exact. Each is compiled once on a machine, for its dtypes and CPU.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor

#: Elements of a result below which a loop saves less than its call costs.
LEAST = 1 << 13
#: Elements of the result that each thread computes at least.
SHARE = 1 << 16


def requantize_one(
    x: Any, slope: Any, start: Any, low: float, high: float, even: bool, out: Any
) -> None:
    """out (R, C) = round(x slope + start), clamped; half even, else floor. slope, start: float64
    (C,)."""
    for row in range(x.shape[0]):
        for c in range(x.shape[1]):
            y = x[row, c] * slope[c] + start[c]
            y = np.rint(y) if even else np.floor(y)
            out[row, c] = np.int32(min(max(y, low), high))


def requantize_two(
    x: Any, y: Any, slope: Any, other: Any, start: Any, low: float, high: float, even: bool,
    out: Any,
) -> None:  # fmt: skip
    """As `requantize_one` of x slope + y other + start."""
    for row in range(x.shape[0]):
        for c in range(x.shape[1]):
            z = x[row, c] * slope[c] + y[row, c] * other[c] + start[c]
            z = np.rint(z) if even else np.floor(z)
            out[row, c] = np.int32(min(max(z, low), high))


def look_up(x: Any, table: Any, out: Any) -> None:
    """out = table[x]. x: uint8 (R, C). table: 256 entries."""
    for row in range(x.shape[0]):
        for c in range(x.shape[1]):
            out[row, c] = table[x[row, c]]


def standardize(
    x: Any, unit: int, epsilon: int, root_bits: int, weight: Any, bias: Any, slope: Any, start: Any,
    low: float, high: float, even: bool, out: Any,
) -> None:  # fmt: skip
    """The kind `standardize` of each row, in steps of `unit` / C, its `affine` by weight and bias,
    and their requantization. weight, bias, slope, start: float64 (C,)."""
    count = x.shape[1]
    for row in range(x.shape[0]):
        total, square = np.int64(0), np.int64(0)
        for c in range(count):
            one = np.int64(x[row, c])
            total += one
            square += one * one
        grown = (count * square - total * total + epsilon) << (2 * root_bits)
        root = np.int64(np.sqrt(np.float64(grown)))
        if root * root > grown:
            root -= 1
        if (root + 1) * (root + 1) <= grown:
            root += 1
        inverse = 1.0 / max(root, 1)
        first = (0.25 - total * (unit // count)) * inverse + 0.5
        step = inverse * unit
        for c in range(count):
            y = (np.floor(x[row, c] * step + first) * weight[c] + bias[c]) * slope[c] + start[c]
            y = np.rint(y) if even else np.floor(y)
            out[row, c] = np.int32(min(max(y, low), high))


def softmax(
    x: Any, slope: float, start: float, low: float, high: float, even: bool,
    table: Any, multiplier: float, below: float, half: float, least: float, most: float, out: Any,
) -> None:  # fmt: skip
    """The requantization of each row, table[max - it], and the kind `divide` of those by their
    sum, by its inverse. table: int32, not below 0."""
    count = x.shape[1]
    taken = np.empty(count, np.int32)
    for row in range(x.shape[0]):
        for c in range(count):
            y = x[row, c] * slope + start
            y = np.rint(y) if even else np.floor(y)
            taken[c] = np.int32(min(max(y, low), high))
        largest = taken.max()
        total = np.int64(0)
        for c in range(count):
            taken[c] = table[largest - taken[c]]
            total += taken[c]
        inverse = 1.0 / max(total, 1)
        first, step = inverse * below + half, inverse * multiplier
        for c in range(count):
            y = np.floor(taken[c] * step + first)
            out[row, c] = np.int32(min(max(y, least), most))


@cache
def installed() -> bool:
    """Whether numba is, and can be imported beside this NumPy."""
    try:
        import numba  # noqa: F401
    except Exception:  # noqa: BLE001 - it raises what its parts raise
        return False
    return True


def pays(x: Tensor) -> bool:
    """Whether a loop over `x` is there and saves time."""
    return x.numel() >= LEAST and installed()


@cache
def _compiled(loop: Callable[..., None]) -> Callable[..., None]:
    """`loop` as machine code, kept in a file for the next process."""
    import numba

    options: dict[str, Any] = {"nogil": True, "error_model": "numpy"}
    try:
        made = numba.njit(cache=True, **options)(loop)
    except RuntimeError:  # no folder that it may write to
        made = numba.njit(**options)(loop)
    return made  # type: ignore[no-any-return]


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads)


def over_rows(
    loop: Callable[..., None],
    xs: Sequence[Tensor],
    constants: Sequence[Any],
    dtype: torch.dtype,
) -> Tensor:
    """`loop` over tensors of one shape (..., C), in as many threads as torch has; gives `dtype`."""
    shape = xs[0].shape
    out = torch.empty(shape, dtype=dtype)
    count = prod(shape[:-1])
    arrays = [x.reshape(count, shape[-1]).contiguous().numpy() for x in xs]
    result = out.view(count, shape[-1]).numpy()
    run = _compiled(loop)
    parts = min(torch.get_num_threads(), max(out.numel() // SHARE, 1), count)
    if parts < 2:
        run(*arrays, *constants, result)
        return out
    ends = [count * part // parts for part in range(parts + 1)]
    done = [
        _pool(parts).submit(run, *(a[start:end] for a in arrays), *constants, result[start:end])
        for start, end in pairwise(ends)
    ]
    for part in done:
        part.result()
    return out
