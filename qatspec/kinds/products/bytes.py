"""Products of 8-bit integers by the kernels that torch has for them (oneDNN's, of instructions such
as VNNI), which are exact where int32 sums are: CPUs without such instructions add products in pairs
of 16 bits, which saturate. So the kernels are used where they have proven themselves on this CPU.

The kernels take activations as uint8 with a zero point and give float32, exact below 2^24.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cache
from math import prod
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from qatspec.kinds.exact import BYTES, padded

#: The kernels that torch's own compiler calls.
_OPS = torch.ops.onednn


class Rounded(NamedTuple):
    """The end of a kernel that gives bytes: round half even of sum * slope + offset (the bias of
    the kernel), in `dtype` and within `limits` where they are narrower than the dtype. slope:
    float32 (O,)."""

    slope: Tensor
    dtype: torch.dtype
    limits: tuple[int, int] | None


def _ending(rounded: Rounded | None) -> tuple[Any, ...]:
    """The arguments of a kernel behind its operands."""
    if rounded is None:
        return (1.0, 0, torch.float32, "none", [], "")
    if rounded.limits is None:
        return (1.0, 0, rounded.dtype, "none", [], "")
    return (1.0, 0, rounded.dtype, "hardtanh", [float(end) for end in rounded.limits], "")


def unsigned(x: Tensor) -> tuple[Tensor, int]:
    """The bytes of `x` as uint8, and the zero point: int8 plus 128, uint8 itself."""
    if x.dtype == torch.uint8:
        return x, 0
    return x.view(torch.uint8).bitwise_xor(128), 128


def unsigned_image(x: Tensor, padding: Sequence[int]) -> tuple[Tensor, int]:
    """Images (N, C, H, W) of bytes as `unsigned` gives them, with zeros around each and the channel
    innermost in memory, wherever `x` lies. padding: top, left, bottom, right."""
    (top, left, bottom, right), (n, c, h, w) = padding, x.shape
    if x.dtype == torch.uint8:
        return padded(x.contiguous(memory_format=torch.channels_last), padding, 0), 0
    around = torch.empty((n, h + top + bottom, w + left + right, c), dtype=torch.uint8)
    inside = image = around.permute(0, 3, 1, 2)
    if any(padding):
        around.fill_(128)
        inside = image[:, :, top : top + h, left : left + w]
    torch.bitwise_xor(x.view(torch.uint8), 128, out=inside)
    return image, 128


class ByteConv:
    """A convolution of bytes. weight (O, I / groups, kH, kW) int8; bias (O,) float32 or None;
    stride, padding and dilation are pairs. Called with bytes (N, I, H, W), and zeros to put around
    them (top, left, bottom, right); gives float32, or bytes by `rounded`, whose offsets are the
    bias then."""

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None,
        stride: Sequence[int],
        padding: Sequence[int],
        dilation: Sequence[int],
        groups: int,
        rounded: Rounded | None = None,
    ) -> None:
        self._bias, self._ending = bias, _ending(rounded)
        self._weight = weight
        self._scales = torch.ones(len(weight)) if rounded is None else rounded.slope
        self._zeros = torch.zeros(len(weight), dtype=torch.int32)
        self._geometry = [list(stride), list(padding), list(dilation), groups]
        self._packed = cache(self._pack)  # in the order that suits the shape

    def _pack(self, shape: tuple[int, ...], zero: int) -> Tensor:
        return _OPS.qconv_prepack(  # type: ignore[no-any-return]
            self._weight, self._scales, 1.0, zero, *self._geometry, list(shape)
        )

    def __call__(self, x: Tensor, around: Sequence[int] = (0, 0, 0, 0)) -> Tensor:
        x, zero = unsigned_image(x, around)
        weight = self._packed(x.shape, zero)
        return _OPS.qconv2d_pointwise(  # type: ignore[no-any-return]
            x, 1.0, zero, weight, self._scales, self._zeros, self._bias, *self._geometry,
            *self._ending,
        )  # fmt: skip


class SplitConv:
    """A convolution in parts, each over some input channels, whose sums are added in float64 and
    given as `dtype`."""

    def __init__(
        self, parts: Sequence[tuple[slice, ByteConv]], bias: Tensor | None, dtype: torch.dtype
    ) -> None:
        self._parts, self._dtype = parts, dtype
        self._bias = None if bias is None else bias.double().view(-1, 1, 1)

    def __call__(self, x: Tensor) -> Tensor:
        (first, *others) = (
            conv(x[:, channels].contiguous(memory_format=torch.channels_last))
            for channels, conv in self._parts
        )
        total = first.double()
        for part in others:
            total.add_(part)
        return (total if self._bias is None else total.add_(self._bias)).to(self._dtype)


class ByteLinear:
    """A linear layer of bytes. weight (O, I) int8; bias (O,) float32 or None. Called with (..., I);
    gives float32, or bytes by `rounded`, whose offsets are the bias then."""

    def __init__(self, weight: Tensor, bias: Tensor | None, rounded: Rounded | None = None) -> None:
        self._bias, self._ending = bias, _ending(rounded)
        self._weight = weight
        self._scales = torch.ones(len(weight)) if rounded is None else rounded.slope
        self._zeros = torch.zeros(len(weight), dtype=torch.int32)
        self._packed = cache(self._pack)

    def _pack(self, rows: int) -> Tensor:
        return _OPS.qlinear_prepack(self._weight, [rows, self._weight.shape[1]])  # type: ignore[no-any-return]

    def __call__(self, x: Tensor) -> Tensor:
        shape = x.shape[:-1]
        x, zero = unsigned(x.reshape(-1, x.shape[-1]).contiguous())
        product = _OPS.qlinear_pointwise(
            x, 1.0, zero, self._packed(len(x)), self._scales, self._zeros, self._bias,
            *self._ending,
        )  # fmt: skip
        return product.view(*shape, -1)  # type: ignore[no-any-return]


class IntLinear:
    """The sums of a linear layer of int8 in int32, without a bias. weight (O, I)."""

    def __init__(self, weight: Tensor) -> None:
        self._weight = _plain(weight.t())

    def __call__(self, x: Tensor) -> Tensor:
        rows = x.reshape(-1, x.shape[-1]).contiguous()
        product = torch._int_mm(_plain(rows), self._weight)
        return product.view(*x.shape[:-1], product.shape[-1])


def _plain(matrix: Tensor) -> Tensor:
    """`matrix`, in order where a dim has one entry: torch 2.13 takes any stride of such a dim for
    the distance of rows, and reads beyond the data."""
    if 1 not in matrix.shape:
        return matrix
    return torch.empty(matrix.shape, dtype=matrix.dtype).copy_(matrix)


def byte_matmul(x: Tensor, y: Tensor) -> Tensor:
    """Products of int8 matrices (..., M, K) and (..., K, N) in int32."""
    if x.shape[:-2] != y.shape[:-2]:
        shape = np.broadcast_shapes(x.shape[:-2], y.shape[:-2])
        x, y = (t.expand(*shape, *t.shape[-2:]) for t in (x, y))
    product = torch.empty(*x.shape[:-1], y.shape[-1], dtype=torch.int32)
    matrices = (t.flatten(0, -3).unbind(0) if t.ndim > 2 else (t,) for t in (x, y, product))
    for a, b, out in zip(*matrices, strict=True):
        torch._int_mm(_plain(a), _plain(b), out=out)
    return product


@cache
def convs_are_exact() -> bool:
    """Whether convolutions of bytes prove themselves on this CPU."""
    geometries = [(64, 32, 3, 1), (64, 64, 3, 64), (3, 16, 7, 1), (320, 24, 1, 1), (768, 8, 3, 1)]
    return _proves(lambda: all(_conv_is_exact(*geometry) for geometry in geometries))


@cache
def linears_are_exact() -> bool:
    """Whether linear layers of bytes prove themselves on this CPU."""

    def exact() -> bool:
        x, w, b = _extremes(torch.int8, 5, 384), _extremes(torch.int8, 40, 384), _biases(40)
        wanted = F.linear(x.double(), w.double(), b.double())
        return torch.equal(ByteLinear(w, b)(x).double(), wanted)

    return _proves(exact)


@cache
def matmuls_are_exact() -> bool:
    """Whether products of byte matrices prove themselves on this CPU."""

    def exact() -> bool:
        x, y = _extremes(torch.int8, 2, 20, 320), _extremes(torch.int8, 2, 24, 320).mT
        products = x.double() @ y.double()
        layer = IntLinear(y[0].t())(x[0]).double()
        return torch.equal(byte_matmul(x, y).double(), products) and torch.equal(layer, products[0])

    return _proves(exact)


@cache
def convs_round_once() -> bool:
    """Whether convolutions that give bytes prove themselves on this CPU."""
    geometries = [(64, 32, 3, 1), (64, 64, 3, 64), (3, 16, 7, 1), (320, 24, 1, 1)]
    return convs_are_exact() and _proves(lambda: all(_conv_rounds_once(*g) for g in geometries))


@cache
def linears_round_once() -> bool:
    """Whether linear layers that give bytes prove themselves on this CPU."""

    def once() -> bool:
        x = _extremes(torch.int8, 5, 384)
        for w in (_extremes(torch.int8, 40, 384), _few_ones(40, 384)):
            sums = F.linear(x.double(), w.double())
            for ending, offset in _endings(sums):
                y = ByteLinear(w, offset, ending)(x)
                if not _is_rounded_once(y, sums, ending, offset):
                    return False
        return True

    return linears_are_exact() and _proves(once)


def _conv_rounds_once(inputs: int, outputs: int, kernel: int, groups: int) -> bool:
    shape, geometry = (outputs, inputs // groups, kernel, kernel), ((1, 1), (kernel // 2,) * 2)
    for w in (_extremes(torch.int8, *shape), _few_ones(*shape)):
        for dtype in BYTES:
            x = _extremes(dtype, 2, inputs, 9, 11).contiguous(memory_format=torch.channels_last)
            sums = F.conv2d(x.double(), w.double(), padding=kernel // 2, groups=groups)
            sums = sums.movedim(1, -1)
            for ending, offset in _endings(sums):
                y = ByteConv(w, offset, *geometry, (1, 1), groups, ending)(x).movedim(1, -1)
                if not _is_rounded_once(y, sums, ending, offset):
                    return False
    return True


def _few_ones(*shape: int) -> Tensor:
    """Weights of which eight are 1 and the others 0, so that sums are small."""
    first = torch.arange(prod(shape[1:]))
    return (first < 8).to(torch.int8).expand(shape[0], -1).reshape(shape).contiguous()


def _endings(sums: Tensor) -> Iterator[tuple[Rounded, Tensor]]:
    """Ends of kernels of sums (..., O), with their offsets: slopes with which the largest sums are
    clamped, and powers of two, with which small sums give ties."""
    count, generator = sums.shape[-1], torch.Generator().manual_seed(1)
    spread = torch.rand(count, generator=generator).add_(0.5)
    slope = (200 / sums.abs().amax() * spread).float()
    ties = torch.exp2(-torch.randint(1, 5, (count,), generator=generator).float())
    offset = torch.randn(count, generator=generator)
    for limits in (None, (0, 100)):
        for dtype in BYTES:
            yield Rounded(slope, dtype, limits), offset
            yield Rounded(ties, dtype, limits), offset.mul(4).round_().div_(2)


def _is_rounded_once(y: Tensor, sums: Tensor, ending: Rounded, offset: Tensor) -> bool:
    """Whether bytes are what `qatspec.kinds.requantization.lines` assumes of sums (..., O)."""
    info = torch.iinfo(ending.dtype)
    low, high = ending.limits or (info.min, info.max)
    exact = sums.float().double() * ending.slope.double()
    ways = (exact.float() + offset, (exact + offset.double()).float())
    fits = [y == way.round().clamp(low, high).to(ending.dtype) for way in ways]
    return y.dtype == ending.dtype and bool((fits[0] | fits[1]).all())


def _conv_is_exact(inputs: int, outputs: int, kernel: int, groups: int) -> bool:
    w, b = _extremes(torch.int8, outputs, inputs // groups, kernel, kernel), _biases(outputs)
    for dtype in (torch.int8, torch.uint8):
        x = _extremes(dtype, 2, inputs, 9, 11).contiguous(memory_format=torch.channels_last)
        sums = ByteConv(w, b, (1, 1), (kernel // 2,) * 2, (1, 1), groups)(x)
        wanted = F.conv2d(x.double(), w.double(), padding=kernel // 2, groups=groups)
        added = b.view(-1, 1, 1)
        # beyond 2^24, rounded before the bias is added, or behind
        ways = (wanted.float() + added, (wanted + added.double()).float())
        if not ((sums == ways[0]) | (sums == ways[1])).all():
            return False
    return True


def _extremes(dtype: torch.dtype, *shape: int) -> Tensor:
    """Bytes of which most are the largest in magnitude and of one sign, so that sums of 16 bits
    would saturate, and some are any."""
    info, generator = torch.iinfo(dtype), torch.Generator().manual_seed(0)
    any_byte = torch.randint(info.min, info.max + 1, shape, generator=generator)
    choice = torch.rand(shape, generator=generator)
    most = torch.where(choice < 0.6, info.max, torch.where(choice < 0.7, info.min, any_byte))
    return most.to(dtype)


def _biases(count: int) -> Tensor:
    """Biases as large as sums that float32 holds allow, and odd, so that a lost bit
    shows."""
    return (
        torch.arange(count)
        .mul_(2)
        .sub_(count)
        .mul_(1 << 15)
        .add_(1)
        .clamp_(-(1 << 22), 1 << 22)
        .float()
    )


def _proves(check: Callable[[], bool]) -> bool:
    try:
        with torch.inference_mode():
            return check()
    except Exception:  # noqa: BLE001 - a torch without these kernels, or a CPU that they refuse
        return False
