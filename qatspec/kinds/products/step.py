"""The executor's steps of sums of products: torch's kernels of bytes where they are exact, else its
float kernels on integers."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from qatspec.ir import EXACT32, Op
from qatspec.kinds.exact import BYTES, ExactDtypes, Step, padded
from qatspec.kinds.products.bytes import (
    ByteConv,
    ByteLinear,
    IntLinear,
    SplitConv,
    byte_matmul,
    convs_are_exact,
    linears_are_exact,
    matmuls_are_exact,
)


def _sums(exact: ExactDtypes, op: Op) -> tuple[torch.dtype, Tensor | None]:
    """The float dtype that holds every sum, and the bias in it."""
    dtype = exact.float_dtype(op.output)
    return dtype, exact.const(op.inputs[2], dtype) if len(op.inputs) == 3 else None


def _is_of_bytes(exact: ExactDtypes, op: Op) -> bool:
    """Whether both operands are bytes, and every sum is exact in float32, before the bias is added
    and behind."""
    operands = all(exact.holder(name) in BYTES for name in op.inputs[:2])
    bias = np.abs(exact.array(op.inputs[2]).astype(np.int64)).max() if len(op.inputs) == 3 else 0
    return operands and exact.interval(op.output).magnitude + bias < EXACT32


def _float_conv(
    w: Tensor, bias: Tensor | None, stride: Any, padding: Any, dilation: Any, groups: int, x: Tensor
) -> Tensor:
    return F.conv2d(x, w, bias, stride, padding, dilation, groups)


class Geometry(NamedTuple):
    """How a window moves: pairs, and groups."""

    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int


def geometry_of(exact: ExactDtypes, op: Op) -> Geometry | None:
    """What the kernels of bytes are told of a convolution; None where they are not used: torch 2.13
    with oneDNN 3.12 reads beyond an image of one channel with channels-last strides."""
    single = exact.array(op.inputs[1]).shape[1] * op.attrs["groups"] == 1
    return None if single else _geometry(exact, op)


def _pads_inside(exact: ExactDtypes, op: Op) -> bool:
    """Whether the kernel can pad: by the same number on opposite sides and by less than the reach
    of the window, behind which kernels read beyond their data."""
    a, size = op.attrs, exact.array(op.inputs[1]).shape[2:]
    top, left, bottom, right = a["padding"]
    reach = [d * (k - 1) + 1 for k, d in zip(size, a["dilation"], strict=True)]
    return (top, left) == (bottom, right) and top < reach[0] and left < reach[1]


def _geometry(exact: ExactDtypes, op: Op) -> Geometry:
    a = op.attrs
    padding = tuple(a["padding"][:2]) if _pads_inside(exact, op) else (0, 0)
    return Geometry(tuple(a["stride"]), padding, tuple(a["dilation"]), a["groups"])


def conv_step(exact: ExactDtypes, op: Op, kernel: Callable[[Tensor], Tensor]) -> Step:
    """`kernel` on images with the channel innermost, padded where it does not pad itself."""
    inside, padding = _pads_inside(exact, op), op.attrs["padding"]
    if isinstance(kernel, ByteConv):
        return kernel if inside else partial(kernel, around=padding)

    def step(x: Tensor) -> Tensor:
        x = x.contiguous(memory_format=torch.channels_last)
        return kernel(x if inside else padded(x, padding, 0))

    return step


def conv(exact: ExactDtypes, op: Op) -> Step:
    """In bytes where they are exact; sums that float32 does not hold as sums of parts that it does;
    else in floats."""
    geometry, (dtype, bias) = geometry_of(exact, op), _sums(exact, op)
    if geometry is not None and convs_are_exact():
        if _is_of_bytes(exact, op):
            return conv_step(
                exact, op, ByteConv(exact.const(op.inputs[1], torch.int8), bias, *geometry)
            )
        if parts := _parts(exact, op, geometry):
            return conv_step(exact, op, SplitConv(parts, bias, dtype))
    w = exact.const(op.inputs[1], dtype).contiguous(memory_format=torch.channels_last)
    in_floats = partial(_float_conv, w, bias, *_geometry(exact, op))
    if geometry is not None:
        step = conv_step(exact, op, in_floats)
        return lambda x: step(x.to(dtype))
    inside, padding = _pads_inside(exact, op), op.attrs["padding"]

    def step_of_one(x: Tensor) -> Tensor:
        x = x.to(dtype).squeeze(1).unsqueeze(1)
        return in_floats(x if inside else padded(x, padding, 0))

    return step_of_one


def _parts(exact: ExactDtypes, op: Op, geometry: Geometry) -> list[tuple[slice, ByteConv]]:
    """Convolutions of bytes over some input channels each, whose sums float32 holds; none where
    the operands are no bytes or the convolution has groups."""
    if geometry.groups > 1 or any(exact.holder(name) not in BYTES for name in op.inputs[:2]):
        return []
    weight = exact.const(op.inputs[1], torch.int8)
    reach = exact.interval(op.inputs[0]).magnitude
    heaviest = weight.to(torch.int32).abs().sum((2, 3)).amax(0).mul(reach).tolist()
    ends, total = [0], 0
    for i, most in enumerate(heaviest):
        if total + most >= EXACT32:
            ends.append(i)
            total = 0
        total += most
    ends.append(len(heaviest))
    if any(end - start == 1 for start, end in pairwise(ends)):
        return []  # an image of one channel, see geometry_of
    slices = [slice(*ends) for ends in pairwise(ends)]
    return [(s, ByteConv(weight[:, s].contiguous(), None, *geometry)) for s in slices]


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


def int32_sums(exact: ExactDtypes, op: Op) -> Step | None:
    """The sums of a linear layer or of a product of matrices in int32, the bias left out; None
    where no kernel of bytes gives them."""
    signed = all(exact.holder(name) == torch.int8 for name in op.inputs[:2])
    if not signed or op.kind not in ("linear", "matmul") or not _is_of_bytes(exact, op):
        return None
    if not (linears_are_exact() and matmuls_are_exact()):
        return None  # torch multiplies in loops without the instructions that linear layers need
    return byte_matmul if op.kind == "matmul" else IntLinear(exact.const(op.inputs[1], torch.int8))


def matmul(exact: ExactDtypes, op: Op) -> Step:
    dtype = exact.float_dtype(op.output)
    signed = all(exact.holder(name) == torch.int8 for name in op.inputs)
    if signed and _is_of_bytes(exact, op) and matmuls_are_exact():
        return lambda x, y: byte_matmul(x, y).to(dtype)
    return lambda x, y: torch.matmul(x.to(dtype), y.to(dtype))
