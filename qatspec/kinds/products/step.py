"""The executor's steps of sums of products: torch's kernels of bytes where they are exact, else its
float kernels on integers."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from qatspec.ir import EXACT32, Op
from qatspec.kinds.exact import ExactDtypes, Step, padded
from qatspec.kinds.products.bytes import (
    ByteConv,
    ByteLinear,
    byte_matmul,
    convs_are_exact,
    linears_are_exact,
    matmuls_are_exact,
)

_BYTES = (torch.int8, torch.uint8)


def _sums(exact: ExactDtypes, op: Op) -> tuple[torch.dtype, Tensor | None]:
    """The float dtype that holds every sum, and the bias in it."""
    dtype = exact.float_dtype(op.output)
    return dtype, exact.const(op.inputs[2], dtype) if len(op.inputs) == 3 else None


def _is_of_bytes(exact: ExactDtypes, op: Op) -> bool:
    """Whether both operands are bytes, and every sum is exact in float32, before the bias is added
    and behind."""
    operands = all(exact.holder(name) in _BYTES for name in op.inputs[:2])
    bias = np.abs(exact.array(op.inputs[2]).astype(np.int64)).max() if len(op.inputs) == 3 else 0
    return operands and exact.interval(op.output).magnitude + bias < EXACT32


def _float_conv(
    w: Tensor, bias: Tensor | None, stride: Any, padding: Any, dilation: Any, groups: int, x: Tensor
) -> Tensor:
    return F.conv2d(x, w, bias, stride, padding, dilation, groups)


def conv(exact: ExactDtypes, op: Op) -> Step:
    """Two kernels of torch 2.13 and oneDNN 3.12 are kept away from, which read beyond their data:
    channels-last strides on an image of one channel, and padding by a kernel's reach or more."""
    a = op.attrs
    top, left, bottom, right = a["padding"]
    stride, dilation, groups = tuple(a["stride"]), tuple(a["dilation"]), a["groups"]
    size = exact.array(op.inputs[1]).shape
    reach = [d * (k - 1) + 1 for k, d in zip(size[2:], dilation, strict=True)]
    inside = (top, left) == (bottom, right) and top < reach[0] and left < reach[1]
    single = size[1] * groups == 1
    dtype, bias = _sums(exact, op)
    geometry = (stride, (top, left) if inside else (0, 0), dilation, groups)
    if not single and _is_of_bytes(exact, op) and convs_are_exact():
        dtype = exact.holder(op.inputs[0])
        kernel: Callable[[Tensor], Tensor] = ByteConv(
            exact.const(op.inputs[1], torch.int8), bias, *geometry
        )
    else:
        w = exact.const(op.inputs[1], dtype).contiguous(memory_format=torch.channels_last)
        kernel = partial(_float_conv, w, bias, *geometry)

    def step(x: Tensor) -> Tensor:
        x = x.to(dtype)
        x = x.squeeze(1).unsqueeze(1) if single else x.contiguous(memory_format=torch.channels_last)
        return kernel(x if inside else padded(x, a["padding"], 0))

    return step


def conv_transpose(exact: ExactDtypes, op: Op) -> Step:
    dtype, b = _sums(exact, op)
    w, a = exact.const(op.inputs[1], dtype), op.attrs
    top, left, bottom, right = a["padding"]
    stride, dilation, extra = tuple(a["stride"]), tuple(a["dilation"]), tuple(a["output_padding"])

    def step(x: Tensor) -> Tensor:
        y = F.conv_transpose2d(x.to(dtype), w, b, stride, 0, extra, a["groups"], dilation)
        return y[:, :, top : y.shape[2] - bottom, left : y.shape[3] - right]

    return step


def linear(exact: ExactDtypes, op: Op) -> Step:
    dtype, b = _sums(exact, op)
    if _is_of_bytes(exact, op) and linears_are_exact():
        return ByteLinear(exact.const(op.inputs[1], torch.int8), b)
    w = exact.const(op.inputs[1], dtype)
    return lambda x: F.linear(x.to(dtype), w, b)


def matmul(exact: ExactDtypes, op: Op) -> Step:
    dtype = exact.float_dtype(op.output)
    signed = all(exact.holder(name) == torch.int8 for name in op.inputs)
    if signed and _is_of_bytes(exact, op) and matmuls_are_exact():
        return lambda x, y: byte_matmul(x, y).to(dtype)
    return lambda x, y: torch.matmul(x.to(dtype), y.to(dtype))
