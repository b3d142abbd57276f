"""What LiteRT's int8 kernels compute from the scales in a file.

`reference` are its reference kernels (TFLite Micro and Arm's Ethos-U compute the same): 31-bit
multipliers and two roundings. `xnnpack` is what its interpreter runs on a CPU: float32 products.
The functions give the constants of the Program's requantization (qatspec's forms double_high and
float32), so that the writer can hold each requantization against the file that it writes.
"""

from __future__ import annotations

from typing import Any

import numpy as np

Multiplier = tuple[np.ndarray, np.ndarray]  # (m, shift), int64
F32 = np.float32

#: The scale of an operand of a sum over that of its result, within which XNNPACK takes it. Below,
#: TFLite computes it as the reference kernels do. (Products and moves that XNNPACK does not take
#: are all 0, or saturate.)
SUM = 2.0**-10, 2.0**8


def quantized(real: np.ndarray) -> Multiplier:
    """TFLite's QuantizeMultiplier: real = m * 2^-(31 + shift)."""
    fraction, exponent = np.frexp(np.asarray(real, np.float64))
    m, exponent = np.floor(fraction * 2.0**31 + 0.5), exponent.astype(np.int64)
    exponent, m = np.where(m == 2.0**31, exponent + 1, exponent), np.where(m == 2.0**31, m / 2, m)
    m, exponent = np.where(exponent < -31, 0, m), np.where(exponent < -31, 0, exponent)
    return m.astype(np.int64), -exponent


def single_precision(factor: np.ndarray) -> Multiplier:
    """A float32 as m / 2^shift, m of 24 bits."""
    fraction, exponent = np.frexp(factor.astype(np.float64))
    return (fraction * 2.0**24).astype(np.int64), (24 - exponent).astype(np.int64)


def product(form: str, x: np.float32, weight: np.ndarray, y: np.float32) -> Multiplier:
    """Of a convolution or linear layer, from the scales of operand, weight and result."""
    if form == "float32":
        return single_precision((x * weight).astype(F32) / y)
    return quantized(float(x) * weight.astype(np.float64) / float(y))


def mul(form: str, a: np.float32, b: np.ndarray, y: np.float32) -> Multiplier:
    """Of a product of two tensors: float32 throughout, in both."""
    ratio = (a * b).astype(F32) / y
    return single_precision(ratio) if form == "float32" else quantized(ratio)


def move(form: str, x: np.float32, y: np.float32) -> Multiplier:
    """Of a tensor that is brought to another scale."""
    if form == "float32":
        return np.array([np.int64(np.rint(F32(x / y) * F32(256)))]), np.array([8])
    return quantized(np.array([float(x) / float(y)]))


def xnnpack_sum(a: np.float32, b: np.float32, y: np.float32) -> tuple[list[int], int]:
    """(multipliers, shift) of a sum of two tensors."""
    ratios = [F32(a / y), F32(b / y)]
    shift = 21 - int(np.frexp(max(ratios))[1])
    return [int(np.rint(np.ldexp(float(ratio), shift))) for ratio in ratios], shift


def reference_sum(
    a: np.float32, b: np.float32, y: np.float32
) -> tuple[list[int], int, dict[str, Any]]:
    """(multipliers, shift, attributes) of a sum of two tensors."""
    twice = 2.0 * max(float(a), float(b))
    (first, second), (one, two) = quantized(np.array([float(a) / twice, float(b) / twice]))
    total, last = quantized(np.array([twice / (2.0**20 * float(y))]))
    attrs = {"lift": 20, "term_shifts": (int(one), int(two)), "total": int(total[0])}
    return [int(first), int(second)], int(last[0]), attrs


def scales_for(
    compute: object, form: str, x: np.float32, y: np.float32, wanted: Multiplier
) -> np.ndarray | None:
    """Return float32 scales of the weight (or second operand) with which the kernel `compute`
    (`product` or `mul`) has the multiplier `wanted`, one for each of its channels; None where there
    are none."""
    m, shift = wanted
    unit = 31 if form == "double_high" else 0
    ratio = np.ldexp(m.astype(np.float64), -(shift + unit).astype(np.int64))
    ratio = np.where(m == 0, 2.0**-40, ratio)  # what TFLite makes 0
    near = (ratio * float(y) / float(x)).astype(F32)
    scales, open_ = near.copy(), np.ones(len(near), bool)
    for way in (0, 1, -1, 2, -2):
        candidate = near
        for _ in range(abs(way)):
            candidate = np.nextafter(candidate, F32(np.inf if way > 0 else 0))
        got_m, got_shift = compute(form, x, candidate, y)  # type: ignore[operator]
        fits = open_ & (got_m == m) & ((got_shift == shift) | (m == 0))
        scales[fits] = candidate[fits]
        open_ &= ~fits
    return None if open_.any() else scales


def same_padding(size: int, stride: int, reach: int) -> tuple[int, int]:
    """What TFLite's padding SAME puts before and behind a dim."""
    total = max((-(-size // stride) - 1) * stride + reach - size, 0)
    return total // 2, total - total // 2


def bilinear_taps(
    form: str, size: int, out: int, align_corners: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(lower pixel, upper pixel, weight of the upper in steps of 2^-10 or 2^-11)."""
    i = np.arange(out)
    if form == "double_high":  # fixed point of 10 bits
        step = (1024 * size + out // 2) // out
        if align_corners and out > 1:
            step = (1024 * (size - 1) + (out - 1) // 2) // (out - 1)
        at = i * step if align_corners else i * step + step // 2 - 512
        low = np.maximum(np.fix(at / 1024).astype(np.int64), 0)
        high = np.minimum(np.fix((at + 1023) / 1024).astype(np.int64), size - 1)
        weight = np.where(high == low, 0, at - 1024 * low)
        return low, high, weight
    scale = F32(size) / F32(out)
    if align_corners and out > 1:
        scale = F32(size - 1) / F32(out - 1)
    at = i.astype(F32) * scale
    if not align_corners:
        at = (i.astype(F32) + F32(0.5)) * scale - F32(0.5)
    at = np.clip(at, F32(0), F32(size - 1)).astype(F32)
    low = np.floor(at).astype(np.int64)
    high = np.minimum(low + 1, size - 1)
    return low, high, np.rint((at - low.astype(F32)) * F32(2048)).astype(np.int64)


def nearest(size: int, out: int) -> np.ndarray:
    """The pixel that each position of RESIZE_NEAREST_NEIGHBOR takes."""
    scale = F32(size) / F32(out)
    places = np.floor(np.arange(out).astype(F32) * scale).astype(np.int64)
    return np.asarray(np.minimum(places, size - 1))
