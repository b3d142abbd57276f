"""The executor's step of norms: in float64 below 2^53, in int64 where no float is exact."""

from __future__ import annotations

from math import prod

import torch
from torch import Tensor

from qatspec.ir import EXACT64, Op
from qatspec.kinds.exact import ExactDtypes, Step, rounded
from qatspec.kinds.norms.kind import standardize_reach


def standardize(exact: ExactDtypes, op: Op) -> Step:
    """In float64 where it holds every integer on the way, else in int64."""
    a, dtype, axes = op.attrs, exact.holder(op.output), list(op.attrs["axes"])
    count = prod(exact.shape(op.inputs[0])[axis - 1] for axis in axes)
    bits, root_bits, epsilon = a["bits"], a["root_bits"], a["epsilon"]
    reach = standardize_reach(a, count, exact.interval(op.inputs[0]))
    double = max(reach.sums, reach.above + reach.below) < EXACT64 // 4

    def step(x: Tensor) -> Tensor:
        x = x.to(torch.float64 if double else torch.int64)
        total = x.sum(axes, keepdim=True)
        variance = count * (x * x).sum(axes, keepdim=True) - total * total
        grown = (variance.to(torch.int64) + epsilon) << (2 * root_bits)
        root = floor_sqrt(grown).clamp(min=1)
        away = (count * x).sub_(total)
        if double:
            above = away.mul_(float(1 << (bits + root_bits)))
            return rounded(above.div_(root), "half_up").to(dtype)
        above = (away << (bits + root_bits + 1)) + root
        return torch.div(above, 2 * root, rounding_mode="floor").to(dtype)

    return step


def floor_sqrt(v: Tensor) -> Tensor:
    """The largest integer whose square is at most v < 2^62. float64's root is off by one at
    most."""
    root = v.to(torch.float64).sqrt().to(torch.int64)
    root = root - (root * root > v).to(torch.int64)
    return root + ((root + 1) * (root + 1) <= v).to(torch.int64)
