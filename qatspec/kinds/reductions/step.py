"""The executor's steps of reductions."""

from __future__ import annotations

import torch
from torch import Tensor

from qatspec.ir import Op
from qatspec.kinds.exact import ExactDtypes, Step


def reduce_sum(exact: ExactDtypes, op: Op) -> Step:
    axes, keep, dtype = list(op.attrs["axes"]), op.attrs["keepdim"], exact.float_dtype(op.output)
    return lambda x: x.to(dtype).sum(axes, keepdim=keep)


def reduce_max(exact: ExactDtypes, op: Op) -> Step:
    axes, keep = list(op.attrs["axes"]), op.attrs["keepdim"]
    return lambda x: x.amax(axes, keepdim=keep)


def argmax(exact: ExactDtypes, op: Op) -> Step:
    """torch says nothing of ties: the first of the largest is looked for by number."""
    axis, keep, size = op.attrs["axis"], op.attrs["keepdim"], exact.shape(op.inputs[0])
    wide, dtype, rank = exact.float_dtype(op.output), exact.holder(op.output), len(size) + 1
    along = [-1 if d == axis else 1 for d in range(rank)]
    places = torch.arange(size[axis - 1], dtype=wide).reshape(along)

    def step(x: Tensor) -> Tensor:
        behind = torch.where(x == x.amax(axis, keepdim=True), places, torch.inf)
        return behind.amin(axis, keepdim=keep).to(dtype)

    return step
