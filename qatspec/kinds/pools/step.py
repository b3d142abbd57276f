"""The executor's steps of pools."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from qatspec.ir import RANGE, Op
from qatspec.kinds.exact import ExactDtypes, Step, padded


def max_pool(exact: ExactDtypes, op: Op) -> Step:
    """Rows of the window, then columns, as elementwise maxima: torch's pool of bytes counts the
    places in bytes too, and its pool of floats is six times slower."""
    a, lowest = op.attrs, RANGE[exact.dtype(op.output)][0]
    kernel, stride, dilation = tuple(a["kernel"]), tuple(a["stride"]), tuple(a["dilation"])

    def step(x: Tensor) -> Tensor:
        x = padded(x, a["padding"], lowest)
        for i in range(2):
            x = _largest(x, i + 2, kernel[i], stride[i], dilation[i])
        return x

    return step


def _largest(x: Tensor, dim: int, taps: int, stride: int, dilation: int) -> Tensor:
    """The maximum over windows of `taps` along one dim."""
    count = (x.shape[dim] - dilation * (taps - 1) - 1) // stride + 1
    reach, inner = (count - 1) * stride + 1, x.movedim(dim, 0)
    starts = range(0, dilation * taps, dilation)
    parts = [inner[start : start + reach : stride].movedim(0, dim) for start in starts]
    if taps == 1:
        return parts[0].clone()
    largest = torch.maximum(parts[0], parts[1])
    for part in parts[2:]:
        torch.maximum(largest, part, out=largest)
    return largest


def sum_pool(exact: ExactDtypes, op: Op) -> Step:
    a, dtype = op.attrs, exact.float_dtype(op.output)
    kernel, stride = tuple(a["kernel"]), tuple(a["stride"])
    return lambda x: F.avg_pool2d(
        padded(x.to(dtype), a["padding"], 0), kernel, stride, divisor_override=1
    )
