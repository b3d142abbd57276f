"""The executor's steps of resizes."""

from __future__ import annotations

import torch
from torch import Tensor

from qatspec.ir import Op
from qatspec.kinds.exact import ExactDtypes, Step
from qatspec.kinds.resizes.taps import bilinear_taps, nearest_index


def nearest(exact: ExactDtypes, op: Op) -> Step:
    sizes = zip(exact.shape(op.inputs[0])[1:], op.attrs["size"], strict=True)
    rows, cols = (torch.from_numpy(nearest_index(s, o)) for s, o in sizes)

    def step(x: Tensor) -> Tensor:  # along rows of whole pixels
        x = x.movedim(1, 3)
        return x.index_select(1, rows).index_select(2, cols).movedim(3, 1)

    return step


def bilinear(exact: ExactDtypes, op: Op) -> Step:
    a, dtype = op.attrs, exact.float_dtype(op.output)
    axes = []
    for axis, out in zip((1, 2), a["size"], strict=True):  # of images with the channel innermost
        size = exact.shape(op.inputs[0])[axis]
        low, high, w = bilinear_taps(size, out, a["align_corners"], a["bits"])
        weight = torch.from_numpy(w).to(dtype).reshape((-1, 1, 1) if axis == 1 else (-1, 1))
        axes.append((axis, torch.from_numpy(low), torch.from_numpy(high), weight))
    one = float(1 << a["bits"])

    def step(x: Tensor) -> Tensor:
        x = x.to(dtype).movedim(1, 3)
        for axis, low, high, w in axes:
            x = x.index_select(axis, low) * (one - w) + x.index_select(axis, high) * w
        return x.movedim(3, 1)

    return step
