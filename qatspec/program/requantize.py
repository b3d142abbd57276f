"""Integer multipliers and shifts from real scales (rule: exact multipliers).

A real sum  y = sum_i x_i * r_i,  r_i = scale_i / scale_out,  becomes
q = round((sum_i x_i * m_i) / 2^s)  with  m_i = round(r_i * 2^s)  and one shift for all terms. The
deviation before rounding is at most sum_i |x_i| * 2^-(s+1), and s is taken so large that the finest
term has the march's whole multiplier: relative to each term that is 2^-bits (Jacob et al. 2018,
section 2.2, with one shift for several terms).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from qatspec.ir import EXACT64, Interval
from qatspec.kinds import MAX_SHIFT
from qatspec.kinds.requantization.kind import requant_bound


def multipliers(
    ratios: Sequence[np.ndarray], reach: Sequence[Interval], bits: int, axis: int
) -> tuple[list[np.ndarray], np.ndarray]:
    """(m_1..m_n, shift), int64 of shape (1,) or (C,).

    ratios: float64 (1,) or (C,), finite, of either sign. reach: what each x_i can hold. bits: the
    multiplier's width. The shift is made smaller per channel until sum |x_i m_i| + 2^(s-1) < 2^53
    holds; a ratio so large that this is not enough saturates, as every nonzero x_i then does.
    """
    width = max(ratio.size for ratio in ratios)
    wide = [np.broadcast_to(np.asarray(ratio, np.float64), (width,)) for ratio in ratios]
    shift = np.max([_own_shift(ratio, bits) for ratio in wide], axis=0)

    def scaled() -> list[np.ndarray]:
        return [np.rint(ratio * np.exp2(shift)) for ratio in wide]

    def over() -> np.ndarray:
        return requant_bound(list(zip(reach, scaled(), strict=True)), shift, axis) >= EXACT64

    while (shrink := over() & (shift > 0)).any():
        shift = shift - shrink
    integers = []
    for m, x in zip(scaled(), reach, strict=True):
        limit = EXACT64 // 4 // (len(wide) * max(x.magnitude, 1))
        bound = np.where(shift == 0, limit, EXACT64)  # beyond it only where x is always 0
        integers.append(np.clip(m, -bound, bound).astype(np.int64))
    return integers, shift.astype(np.int64)


def _own_shift(ratio: np.ndarray, bits: int) -> np.ndarray:
    """The shift with which the multiplier of `ratio` has `bits` bits, within [0, MAX_SHIFT]."""
    fraction, exponent = np.frexp(np.abs(ratio))  # fraction in [1/2, 1)
    shift = bits - exponent - (np.rint(fraction * 2.0**bits) >= 2.0**bits)
    return np.where(ratio == 0, 0, np.clip(shift, 0, MAX_SHIFT))


def fit_bias(scale: np.ndarray, bias: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(step, integers): the int32 bias round-half-even(bias / (scale * step)), per channel.

    scale: float64 (C,) of the accumulator. step is 1, but where the bias would exceed 2^30 (a
    channel whose weights are nearly zero has a tiny scale): there it is the power of two by which
    the channel's scale must grow and its weights shrink; what that loses is below 2^-22 of the
    bias. Half of int32 is left to the products.
    """
    real = np.abs(bias.astype(np.float64))
    with np.errstate(over="ignore", divide="ignore"):
        halvings = np.ceil(np.log2(real / scale) - 30)
    step = np.exp2(np.maximum(halvings, 0))
    return step, np.rint(bias.astype(np.float64) / (scale * step)).astype(np.int64)
