"""The executor's steps of sums of products: torch's float kernels on integers."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from qatspec.ir import Op
from qatspec.kinds.exact import ExactDtypes, Step


def _accumulating(exact: ExactDtypes, op: Op) -> tuple[torch.dtype, Tensor, Tensor | None]:
    dtype = exact.float_dtype(op.output)
    bias = exact.const(op.inputs[2], dtype) if len(op.inputs) == 3 else None
    return dtype, exact.const(op.inputs[1], dtype), bias


def conv(exact: ExactDtypes, op: Op) -> Step:
    """Two kernels of torch 2.13 and oneDNN 3.12 are kept away from, which read beyond their data:
    channels-last strides on an image of one channel, and padding by a kernel's reach or more."""
    dtype, w, b = _accumulating(exact, op)
    w = w.contiguous(memory_format=torch.channels_last)
    a = op.attrs
    top, left, bottom, right = a["padding"]
    stride, dilation, groups = tuple(a["stride"]), tuple(a["dilation"]), a["groups"]
    reach = [d * (k - 1) + 1 for k, d in zip(w.shape[2:], dilation, strict=True)]
    inside = (top, left) == (bottom, right) and top < reach[0] and left < reach[1]
    single = w.shape[1] * groups == 1

    def step(x: Tensor) -> Tensor:
        x = x.to(dtype)
        x = x.squeeze(1).unsqueeze(1) if single else x.contiguous(memory_format=torch.channels_last)
        if not inside:
            x = F.pad(x, (left, right, top, bottom))
        return F.conv2d(x, w, b, stride, (top, left) if inside else 0, dilation, groups)

    return step


def conv_transpose(exact: ExactDtypes, op: Op) -> Step:
    dtype, w, b = _accumulating(exact, op)
    a = op.attrs
    top, left, bottom, right = a["padding"]
    stride, dilation, extra = tuple(a["stride"]), tuple(a["dilation"]), tuple(a["output_padding"])

    def step(x: Tensor) -> Tensor:
        y = F.conv_transpose2d(x.to(dtype), w, b, stride, 0, extra, a["groups"], dilation)
        return y[:, :, top : y.shape[2] - bottom, left : y.shape[3] - right]

    return step


def linear(exact: ExactDtypes, op: Op) -> Step:
    dtype, w, b = _accumulating(exact, op)
    return lambda x: F.linear(x.to(dtype), w, b)


def matmul(exact: ExactDtypes, op: Op) -> Step:
    dtype = exact.float_dtype(op.output)
    return lambda x, y: torch.matmul(x.to(dtype), y.to(dtype))
