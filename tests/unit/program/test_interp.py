"""The referee against plain loops and known numbers."""

from __future__ import annotations

import numpy as np
import pytest

from qatspec.ir import Op
from qatspec.kinds.resizes.taps import bilinear_taps, nearest_index
from qatspec.referee import evaluate
from qatspec.referee.requantization import shift_right


def run(kind, *operands, dtype="int8", **attrs):
    op = Op(kind=kind, inputs=("x",), output="y", attrs=attrs)
    return evaluate(op, [np.asarray(o, np.int64) for o in operands], dtype)


@pytest.mark.parametrize(
    ("rounding", "expected"),
    [
        ("half_up", [-1, -1, 0, 0, 0, 1, 1, 2]),
        ("half_even", [-2, -1, 0, 0, 0, 0, 1, 2]),
        ("floor", [-2, -1, -1, -1, 0, 0, 1, 1]),
    ],
)
def test_rounding_of_the_shift(rounding, expected):
    sixteenths = np.array([-24, -16, -8, -4, 4, 8, 16, 24])  # -1.5 -1 -0.5 -0.25 0.25 0.5 1 1.5
    assert shift_right(sixteenths, np.array([4]), rounding).tolist() == expected
    assert shift_right(sixteenths, np.array([0]), rounding).tolist() == sixteenths.tolist()


def test_requant_sums_terms_before_one_rounding():
    x, y = [[[[3]]]], [[[[-1]]]]
    m = np.array([3]), np.array([5])
    attrs = {"axis": 1, "rounding": "half_up", "low": -128, "high": 127}
    assert run("requant", x, y, *m, [3], **attrs).item() == 1  # (9 - 5) / 8 = 0.5
    assert run("requant", x, [3], [3], **{**attrs, "high": 0}).item() == 0


def test_conv_against_loops():
    rng = np.random.default_rng(1)
    x, w = rng.integers(-128, 128, (2, 4, 6, 5)), rng.integers(-128, 128, (6, 2, 3, 2))
    b = rng.integers(-99, 99, 6)
    attrs = {"stride": (2, 1), "padding": (1, 0, 2, 1), "dilation": (1, 2), "groups": 2}
    y = run("conv", x, w, b, **attrs)
    padded = np.pad(x, ((0, 0), (0, 0), (1, 2), (0, 1)))
    for n, o, i, j in np.ndindex(*y.shape):
        total = b[o]
        for c, kh, kw in np.ndindex(2, 3, 2):
            total += padded[n, (o // 3) * 2 + c, 2 * i + kh, j + 2 * kw] * w[o, c, kh, kw]
        assert y[n, o, i, j] == total


def test_conv_transpose_is_the_adjoint_of_conv():
    rng = np.random.default_rng(2)
    w = rng.integers(-9, 9, (4, 3, 3, 3))  # conv: (O=4, I=3); transpose: (I=4, O=3)
    attrs = {"stride": (2, 2), "padding": (1, 1, 1, 1), "dilation": (1, 1), "groups": 1}
    x, y = rng.integers(-9, 9, (1, 3, 7, 7)), rng.integers(-9, 9, (1, 4, 4, 4))
    forward = run("conv", x, w, **attrs)
    back = run("conv_transpose", y, w, output_padding=(0, 0), **attrs)
    assert back.shape == x.shape
    assert (forward * y).sum() == (back * x).sum()


def test_max_pool_pads_with_the_lowest():
    attrs = {"kernel": (2, 2), "stride": (2, 2), "padding": (1, 1, 0, 0), "dilation": (1, 1)}
    assert run("max_pool", [[[[-5]]]], **attrs).tolist() == [[[[-5]]]]


def test_nearest_is_torchs():
    torch = pytest.importorskip("torch")
    for size, out in [(4, 8), (5, 10), (7, 3), (6, 9), (3, 20)]:
        grid = torch.arange(size, dtype=torch.float32).reshape(1, 1, 1, size)
        found = torch.nn.functional.interpolate(grid, size=(1, out))
        assert found[0, 0, 0].int().tolist() == nearest_index(size, out).tolist()


@pytest.mark.parametrize("aligned", [False, True])
def test_bilinear_is_torchs_within_the_weights_resolution(aligned):
    torch = pytest.importorskip("torch")
    for size, out in [(4, 8), (5, 10), (7, 3), (6, 9), (3, 20), (1, 4), (5, 1)]:
        grid = torch.arange(size, dtype=torch.float64).reshape(1, 1, 1, size)
        found = torch.nn.functional.interpolate(
            grid, size=(1, out), mode="bilinear", align_corners=aligned
        )
        low, high, weight = bilinear_taps(size, out, aligned, 11)
        mine = low + (high - low) * weight / 2**11
        assert np.abs(found[0, 0, 0].numpy() - mine).max() <= 2.0**-12 + 1e-9
        assert weight.min() >= 0
        assert weight.max() < 2**11
