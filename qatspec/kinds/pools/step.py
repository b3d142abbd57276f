"""The executor's steps of pools."""

from __future__ import annotations

import torch.nn.functional as F

from qatspec.ir import RANGE, Op
from qatspec.kinds.exact import ExactDtypes, Step, padded


def max_pool(exact: ExactDtypes, op: Op) -> Step:
    a, lowest = op.attrs, float(RANGE[exact.dtype(op.output)][0])
    kernel, stride, dilation = tuple(a["kernel"]), tuple(a["stride"]), tuple(a["dilation"])
    return lambda x: F.max_pool2d(
        padded(x, a["padding"], lowest), kernel, stride, dilation=dilation
    )


def sum_pool(exact: ExactDtypes, op: Op) -> Step:
    a, dtype = op.attrs, exact.float_dtype(op.output)
    kernel, stride = tuple(a["kernel"]), tuple(a["stride"])
    return lambda x: F.avg_pool2d(
        padded(x.to(dtype), a["padding"], 0.0), kernel, stride, divisor_override=1
    )
