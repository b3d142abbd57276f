"""Multipliers and shifts: width, error bound, 2^53, saturation, wide biases."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from qatspec.ir import EXACT64, interval
from qatspec.kinds import MAX_SHIFT
from qatspec.kinds.requantization.kind import requant_bound
from qatspec.program.requantize import fit_bias, multipliers
from qatspec.referee.requantization import shift_right

ACCUMULATOR = interval(-(2**31), 2**31 - 1)
INT8 = interval(-128, 127)


def exponents():
    return 10 ** np.random.default_rng(0).uniform(-9, 4, 2000)


@pytest.mark.parametrize("bits", [8, 14, 16])
def test_one_term_has_the_whole_width_and_its_error(bits):
    ratios = exponents()
    ratios = ratios[ratios < 2**bits - 1]
    (m,), shift = multipliers([ratios], [ACCUMULATOR], bits, 1)
    assert m.max() < 2**bits
    for ratio, mi, s in zip(ratios.tolist(), m.tolist(), shift.tolist(), strict=True):
        exact = Fraction(ratio) * 2**s
        assert abs(mi - exact) <= Fraction(1, 2)
        assert s in (0, MAX_SHIFT) or mi >= 2 ** (bits - 1)


def test_a_ratio_just_below_a_power_of_two_keeps_the_width():
    (m,), shift = multipliers([np.array([1 - 2.0**-20])], [ACCUMULATOR], 16, 1)
    assert (m.tolist(), shift.tolist()) == ([2**15], [15])


@pytest.mark.parametrize("other", [1e-12, 1e-3, 1.0, 1e3, 1e12])
def test_several_terms_share_a_shift_below_2_53(other):
    ratios = [exponents(), np.array([other])]
    ms, shift = multipliers(ratios, [ACCUMULATOR, INT8], 16, 1)
    assert (
        requant_bound(list(zip((ACCUMULATOR, INT8), ms, strict=True)), shift, 1) < EXACT64
    ).all()
    for m, ratio in zip(ms, ratios, strict=True):
        wide = np.broadcast_to(ratio, m.shape)
        free = shift > 0
        assert (np.abs(m - wide * np.exp2(shift))[free] <= 0.5).all()


@pytest.mark.parametrize("ratio", [1e30, 1e300, 1e-300, 5e-324])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_extreme_ratios_saturate_or_vanish(ratio, sign):
    ms, shift = multipliers([np.array([ratio * sign])], [ACCUMULATOR], 16, 1)
    one = int(ms[0][0]) / 2 ** int(shift[0])
    assert abs(one) > 255 if ratio > 1 else abs(one) * 2**31 < 0.5
    assert (requant_bound([(ACCUMULATOR, ms[0])], shift, 1) < EXACT64).all()


def test_bias_is_rounded_half_to_even():
    step, levels = fit_bias(np.array([0.5, 0.5, 2.0]), np.array([0.25, 0.75, -3.0]))
    assert step.tolist() == [1, 1, 1]
    assert levels.tolist() == [0, 2, -2]


def test_a_dead_channel_with_a_large_bias_widens_its_scale():
    scale, bias = np.array([1e-9 * 1e-7, 1e-3]), np.array([3.0, 3.0])
    step, levels = fit_bias(scale, bias)
    assert step[0] > 1
    assert step[1] == 1
    assert np.abs(levels).max() <= 2**30
    assert np.abs(levels * scale * step - bias).max() / 3.0 < 2.0**-11
    assert abs(levels[0] * scale[0] * step[0] / 3.0 - 1) < 2.0**-28


@pytest.mark.parametrize("seed", range(4))
def test_the_whole_requantization_stays_within_its_bound(seed):
    """|q - sum x_i r_i| <= 1/2 + sum |x_i| 2^-(s+1), over extremes of x and 18 decades of r."""
    rng = np.random.default_rng(seed)
    for _ in range(300):
        ratios = [np.array([10 ** rng.uniform(-12, 6)]) for _ in range(int(rng.integers(1, 4)))]
        reach = [ACCUMULATOR, INT8, INT8][: len(ratios)]
        ms, shift = multipliers(ratios, reach, 16, 1)
        if shift[0] == 0:
            continue  # every x but 0 saturates
        xs = [
            int(rng.choice([r.low[0], r.high[0], rng.integers(r.low[0], r.high[0])])) for r in reach
        ]
        total = sum(x * int(m[0]) for x, m in zip(xs, ms, strict=True))
        found = int(shift_right(np.array([total]), shift, "half_up")[0])
        real = sum(x * Fraction(float(r[0])) for x, r in zip(xs, ratios, strict=True))
        bound = Fraction(1, 2) + sum(abs(x) for x in xs) * Fraction(1, 2 ** (int(shift[0]) + 1))
        assert abs(found - real) <= bound
