"""The executor's steps of pools."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from qatspec.ir import RANGE, Op
from qatspec.kinds.exact import ExactDtypes, Step, padded


def max_pool(exact: ExactDtypes, op: Op) -> Step:
    """In floats: torch's pool of bytes counts the places in bytes too."""
    a, lowest = op.attrs, RANGE[exact.dtype(op.output)][0]
    kernel, stride, dilation = tuple(a["kernel"]), tuple(a["stride"]), tuple(a["dilation"])
    wide, dtype = exact.float_dtype(op.output), exact.holder(op.output)

    def step(x: Tensor) -> Tensor:
        x = padded(x.to(wide), a["padding"], lowest)
        return F.max_pool2d(x, kernel, stride, dilation=dilation).to(dtype)

    return step


def sum_pool(exact: ExactDtypes, op: Op) -> Step:
    a, dtype = op.attrs, exact.float_dtype(op.output)
    kernel, stride = tuple(a["kernel"]), tuple(a["stride"])
    return lambda x: F.avg_pool2d(
        padded(x.to(dtype), a["padding"], 0), kernel, stride, divisor_override=1
    )
