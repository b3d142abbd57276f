"""The executor's steps of the ops in `statistics`: products in float as in `kernels`, quotients in
float64 below 2^53, roots and their quotients in int64, where no float is exact."""

from __future__ import annotations

from math import prod

import torch
from torch import Tensor

from qatspec.program.bounds import EXACT64, standardize_reach
from qatspec.program.carriers import Build, Carriers, Step
from qatspec.program.model import Op


def _matmul(ex: Carriers, op: Op) -> Step:
    carrier = ex.carrier(op.output)
    return lambda x, y: torch.matmul(x.to(carrier), y.to(carrier))


def _exp_below_max(ex: Carriers, op: Op) -> Step:
    axis, table = op.attrs["axis"], ex.const(op.inputs[1], ex.carrier(op.output))
    return lambda x: looked_up(table, x.amax(axis, keepdim=True) - x)


def looked_up(table: Tensor, index: Tensor) -> Tensor:
    """table[index]; a third of the time that indexing takes."""
    return table.index_select(0, index.to(torch.int32).reshape(-1)).view(index.shape)


def _divide(ex: Carriers, op: Op) -> Step:
    a, carrier = op.attrs, ex.carrier(op.output)
    multiplier, unit = float(a["multiplier"]), float(1 << a["shift"])

    def step(x: Tensor, y: Tensor) -> Tensor:
        below = y.to(torch.float64) * unit
        found = rounded(x.to(torch.float64).mul_(multiplier) / below, a["rounding"])
        if (below == 0).any():
            found.nan_to_num_(0.0, torch.inf, -torch.inf)
        return found.clamp_(a["low"], a["high"]).to(carrier)

    return step


def rounded(quotient: Tensor, rounding: str) -> Tensor:
    """A float64 quotient of integers a / b, in place, as the exact one is rounded (`bounds`: |a| +
    |b| / 2 < 2^51). What is no integer or half of one lies 1 / (2 |b|) away from both at least, and
    that is more than the division and the half can lose."""
    if rounding == "half_even":
        return quotient.round_()
    return (quotient.add_(0.5) if rounding == "half_up" else quotient).floor_()


def _standardize(ex: Carriers, op: Op) -> Step:
    """In float64 where it holds every integer on the way, else in int64."""
    a, carrier, axes = op.attrs, ex.carrier(op.output), list(op.attrs["axes"])
    count = prod(ex.shape(op.inputs[0])[axis - 1] for axis in axes)
    bits, root_bits, epsilon = a["bits"], a["root_bits"], a["epsilon"]
    reach = standardize_reach(a, count, ex.interval(op.inputs[0]))
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
            return rounded(above.div_(root), "half_up").to(carrier)
        above = (away << (bits + root_bits + 1)) + root
        return torch.div(above, 2 * root, rounding_mode="floor").to(carrier)

    return step


def floor_sqrt(v: Tensor) -> Tensor:
    """The largest integer whose square is at most v < 2^62. float64's root is off by one at
    most."""
    root = v.to(torch.float64).sqrt().to(torch.int64)
    root = root - (root * root > v).to(torch.int64)
    return root + ((root + 1) * (root + 1) <= v).to(torch.int64)


def _affine(ex: Carriers, op: Op) -> Step:
    carrier, rank = ex.carrier(op.output), len(ex.shape(op.inputs[0])) + 1
    along = [-1 if d == op.attrs["axis"] else 1 for d in range(rank)]
    w, b = (ex.const(name, carrier).reshape(along) for name in op.inputs[1:])
    return lambda x: x.to(carrier) * w + b


def _argmax(ex: Carriers, op: Op) -> Step:
    """torch says nothing of ties: the first of the largest is looked for by number."""
    axis, keep, size = op.attrs["axis"], op.attrs["keepdim"], ex.shape(op.inputs[0])
    carrier, rank = ex.carrier(op.output), len(size) + 1
    along = [-1 if d == axis else 1 for d in range(rank)]
    places = torch.arange(size[axis - 1], dtype=carrier).reshape(along)

    def step(x: Tensor) -> Tensor:
        behind = torch.where(x == x.amax(axis, keepdim=True), places, torch.inf)
        return behind.amin(axis, keepdim=keep)

    return step


#: By kind of op.
BUILD: dict[str, Build] = {
    "matmul": _matmul,
    "exp_below_max": _exp_below_max,
    "divide": _divide,
    "standardize": _standardize,
    "affine": _affine,
    "argmax": _argmax,
}
