"""The executor's step of norms: in float64 below 2^53, in int64 where no float is exact."""

from __future__ import annotations

from math import prod

import numpy as np
import torch
from torch import Tensor

from qatspec.ir import EXACT32, EXACT64, Op
from qatspec.kinds.exact import NEAR, ExactDtypes, Step, rounded
from qatspec.kinds.norms.kind import standardize_reach


def _reach(exact: ExactDtypes, op: Op) -> tuple[bool, bool]:
    """Whether float64 holds every integer on the way, and whether a product by an inverse is the
    quotient."""
    a = op.attrs
    count = prod(exact.shape(op.inputs[0])[axis - 1] for axis in a["axes"])
    reach = standardize_reach(a, count, exact.interval(op.inputs[0]))
    double = max(reach.sums, reach.above + reach.below) < EXACT64 // 4
    largest = exact.interval(op.inputs[0]).magnitude
    unit = count << (a["bits"] + a["root_bits"])
    return double, double and 2 * largest * unit + reach.below < NEAR


def has_near_inverse(exact: ExactDtypes, op: Op) -> bool:
    """Return whether a norm's quotients are products by inverses, see `NEAR`."""
    return _reach(exact, op)[1]


def standardize(exact: ExactDtypes, op: Op) -> Step:
    """In float64 where it holds every integer on the way, else in int64."""
    a, dtype, axes = op.attrs, exact.holder(op.output), list(op.attrs["axes"])
    count = prod(exact.shape(op.inputs[0])[axis - 1] for axis in axes)
    bits, root_bits, epsilon = a["bits"], a["root_bits"], a["epsilon"]
    double, near = _reach(exact, op)
    largest = exact.interval(op.inputs[0]).magnitude
    unit = count << (bits + root_bits)  # what one step of x is in the dividend
    squares = torch.float32 if count * largest**2 < EXACT32 else torch.float64

    def by_inverse(x: Tensor) -> Tensor:
        summands = x.to(squares)
        total, square = (
            t.sum(axes, keepdim=True).numpy().astype(np.float64)
            for t in (summands, summands * summands)
        )
        inverse = 1 / _roots(count * square - total * total, epsilon, root_bits)
        start = (0.25 - total * (unit // count)) * inverse + 0.5
        start, slope = torch.from_numpy(start), torch.from_numpy(inverse * unit)
        return x.double().mul_(slope).add_(start).floor_().to(dtype)

    def step(x: Tensor) -> Tensor:
        x = x.to(torch.float64 if double else torch.int64)
        total = x.sum(axes, keepdim=True)
        variance = count * (x * x).sum(axes, keepdim=True) - total * total
        grown = (variance.to(torch.int64) + epsilon) << (2 * root_bits)
        root = floor_sqrt(grown).clamp_(min=1)
        away = (count * x).sub_(total)
        if double:
            above = away.mul_(float(1 << (bits + root_bits)))
            return rounded(above.div_(root), "half_up").to(dtype)
        above = (away << (bits + root_bits + 1)) + root
        return torch.div(above, 2 * root, rounding_mode="floor").to(dtype)

    return by_inverse if near else step


def _roots(variance: np.ndarray, epsilon: int, root_bits: int) -> np.ndarray:
    """floor(sqrt((v + epsilon) 4^root_bits)), at least 1, of float64 integers below 2^53, by
    NumPy, whose calls cost less than torch's on few numbers. float64's root is off by one at
    most."""
    grown = (variance.astype(np.int64) + epsilon) << (2 * root_bits)
    root = np.sqrt(grown.astype(np.float64)).astype(np.int64)
    root -= root * root > grown
    root += (root + 1) * (root + 1) <= grown
    return np.maximum(root, 1).astype(np.float64)


def floor_sqrt(v: Tensor) -> Tensor:
    """The largest integer whose square is at most v < 2^62. float64's root is off by one at
    most."""
    root = v.to(torch.float64).sqrt().to(torch.int64)
    root = root - (root * root > v).to(torch.int64)
    return root + ((root + 1) * (root + 1) <= v).to(torch.int64)
