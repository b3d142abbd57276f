"""Lines in float32 that are proven give the referee's integers for every sum that can occur."""

from __future__ import annotations

import numpy as np
import pytest

from qatspec.ir import Interval
from qatspec.kinds.requantization.lines import Lines, gates, proven_lines
from qatspec.referee.requantization import shift_right

LIMITS = {"int8": (-128, 127), "relu": (0, 127), "uint8": (0, 255), "narrow": (-8, 7)}


def drawn(rng, count, ratios):
    """Multipliers of 16 bits and shifts of ratios from `ratios[0]` to `ratios[1]`, and biases."""
    ratio = np.exp(rng.uniform(*np.log(ratios), count))
    shift = np.clip(16 - np.ceil(np.log2(ratio)), 0, 50).astype(np.int64)
    m = np.rint(np.ldexp(ratio, shift)).astype(np.int64)
    return m, shift, rng.integers(-3000, 3000, count)


def exact(v, m, shift, rounding, limits):
    return np.clip(shift_right(v * m[:, None], shift[:, None], rounding), *limits)


def computed(lines: Lines, x: np.ndarray, limits, once: bool):
    """As kernels compute it: with two roundings, or with one (fused multiply-add)."""
    x = x.astype(np.float32)
    a, b = lines.slope[:, None], lines.offset[:, None]
    real = (x.astype(np.float64) * a + b).astype(np.float32) if once else x * a + b
    return np.clip(np.rint(real), *limits)


@pytest.mark.parametrize("rounding", ["half_up", "half_even", "floor"])
@pytest.mark.parametrize("name", LIMITS)
def test_gates_are_where_the_result_changes(rounding, name):
    rng, limits = np.random.default_rng(0), LIMITS[name]
    m, shift, _ = drawn(rng, 40, (1e-4, 3.0))
    first = gates(m, shift, rounding, *limits)
    k = np.arange(limits[0] + 1, limits[1] + 1)
    assert (exact(first, m, shift, rounding, limits) >= k).all()
    assert (exact(first - 1, m, shift, rounding, limits) < k).all()


@pytest.mark.parametrize("rounding", ["half_up", "half_even", "floor"])
@pytest.mark.parametrize("name", LIMITS)
def test_proven_lines_equal_the_referee(rounding, name):
    """On every sum of a wide interval, in both ways to compute a line."""
    rng, limits = np.random.default_rng(1), LIMITS[name]
    m, shift, bias = drawn(rng, 60, (3e-4, 2.0))
    m[0], m[1], shift[2:4] = 0, -3, 0
    low, high = np.sort(rng.integers(-150_000, 150_000, (2, 60)), axis=0)
    lines = proven_lines(m, shift, rounding, limits, Interval(low, high), bias)
    assert lines.proven.mean() > 0.5
    assert not lines.proven[:2].any()
    for c in np.flatnonzero(lines.proven):
        v = np.arange(low[c], high[c] + 1)[None]
        one = Lines(*(part[c : c + 1] for part in lines))
        expected = exact(v, m[c : c + 1], shift[c : c + 1], rounding, limits)
        for once in (False, True):
            found = computed(one, v - bias[c], limits, once)
            np.testing.assert_array_equal(found, expected)


def test_a_line_that_float32_cannot_hold_is_not_proven():
    """Ratios so small that neighbouring sums have one float32 in common behind the product."""
    rng = np.random.default_rng(2)
    m, shift, bias = drawn(rng, 30, (1e-8, 1e-7))
    bound = np.full(30, 2**31 - 1)
    lines = proven_lines(m, shift, "half_up", (-128, 127), Interval(-bound, bound), bias)
    assert not lines.proven.any()


def test_sums_beyond_what_float32_holds_are_clamped_to_the_right_end():
    m, shift = np.array([40000]), np.array([23])
    bound = np.array([2**31 - 1])
    lines = proven_lines(m, shift, "half_up", (-128, 127), Interval(-bound, bound), np.array([0]))
    assert lines.proven.all()
    v = np.array([[-(2**31) + 1, -(2**25) - 1, -1, 0, 1, 2**24 + 1, 2**31 - 1]])
    expected = exact(v, m, shift, "half_up", (-128, 127))
    np.testing.assert_array_equal(computed(lines, v, (-128, 127), False), expected)
