"""Bounds of sums of products and of requantizations: reached, never exceeded, refused in time."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from qatspec.ir import EXACT64, Interval, Op, Overflow, Value, interval
from qatspec.kinds import KINDS, Malformed, infer, op_range
from qatspec.kinds.requantization.kind import requant_bound

INT8 = interval(-128, 127)


def bounds(kind, weight, inputs, bias=None, **attrs):
    names = ["x", "w", *(["b"] if bias is not None else [])]
    consts = {"w": np.asarray(weight), "b": None if bias is None else np.asarray(bias)}
    op = Op(kind=kind, inputs=tuple(names), output="y", attrs=attrs)
    return KINDS[kind].bounds(op, [inputs, *[None] * (len(names) - 1)], (1,), consts)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("low, high", [(-128, 127), (0, 255), (3, 9), (-7, -2)])
def test_an_accumulator_is_bounded_by_its_largest_partial_sums(low, high, seed):
    """Over every order of the products and every corner of the operands, the bias at any point."""
    rng = np.random.default_rng(seed)
    weight = rng.integers(-5, 6, (2, 3))
    bias = rng.integers(-40, 41, 2)
    found = bounds("linear", weight, interval(low, high), bias)
    for channel in range(2):
        corners = [[0, low * w, high * w] for w in weight[channel].tolist()]
        sums = [sum(part) + b for part in itertools.product(*corners) for b in (0, bias[channel])]
        assert (found.low[channel], found.high[channel]) == (min(sums), max(sums))
    assert found.axis == 1
    conv = bounds("conv", weight.reshape(2, 1, 1, 3), interval(low, high), bias)
    assert np.array_equal([conv.low, conv.high], [found.low, found.high])


def test_channels_of_a_transposed_convolution_are_those_of_its_groups():
    weight = np.arange(-12, 12).reshape(6, 2, 1, 2)  # (I, O/g, kh, kw) in two groups
    found = bounds("conv_transpose", weight, interval(0, 1), groups=2)
    expected = [
        (np.minimum(part, 0).sum(), np.maximum(part, 0).sum())
        for group in (weight[:3], weight[3:])
        for part in (group[:, 0], group[:, 1])
    ]
    assert list(zip(found.low, found.high, strict=True)) == expected


def test_a_product_of_two_activations_is_bounded_by_its_corners():
    op = Op(kind="matmul", inputs=("x", "y"), output="z", attrs={})
    for x, y, expected in [
        ((-2, 3), (-5, 4), (-15, 12)), ((1, 3), (2, 4), (0, 12)), ((-3, -1), (2, 4), (-12, 0)),
        ((-3, -1), (-4, -2), (0, 12)),
    ]:  # fmt: skip
        found = KINDS["matmul"].bounds(op, [interval(*x), interval(*y)], (2, 7), {})
        assert (found.low[0], found.high[0]) == (7 * expected[0], 7 * expected[1])


def test_what_int32_does_not_hold_is_refused_and_one_less_is_not():
    most = 2**31 - 1
    assert bounds("linear", [[1]], interval(0, 1), [most - 1]).high[0] == most
    with pytest.raises(Overflow, match="int32"):
        bounds("linear", [[1]], interval(0, 1), [most])
    assert bounds("linear", [[-1]], interval(0, 1), [-most]).low[0] == -(2**31)
    with pytest.raises(Overflow, match="int32"):
        bounds("linear", [[-1]], interval(0, 1), [-most - 1])


def test_the_bound_of_a_requantization_is_of_each_channel():
    x = Interval(np.array([-3, 0]), np.array([2, 10]))
    m, shift = np.array([4, -7]), np.array([1, 3])
    assert requant_bound([(x, m)], shift, 1).tolist() == [12 + 1, 70 + 4]
    assert requant_bound([(x, m)], shift, 2).tolist() == [40 + 1, 70 + 4]  # another axis: all of x
    assert requant_bound([(x, m), (interval(-5, 1), np.array([2]))], shift, 1).tolist() == [23, 84]
    assert requant_bound([], np.array([0]), 1).tolist() == [0.5]


def requant(low, high, multiplier, shift, count=1):
    names = (*(f"x{i}" for i in range(count)), *["m"] * count, "s")
    attrs = {"dtype": "int8", "low": -128, "high": 127, "rounding": "half_up", "axis": 1}
    consts = {"m": np.array([multiplier]), "s": np.array([shift])}
    op = Op(kind="requant", inputs=names, output="y", attrs=attrs)
    inputs = [interval(low, high)] * count + [interval(0, 1)] * (count + 1)
    return op_range(op, inputs, (4,), consts)


def test_a_requantization_that_float64_does_not_hold_is_refused():
    exact = int(EXACT64)
    assert requant(0, 1, exact - 2, 1).high[0] == 127
    with pytest.raises(Overflow, match="2\\^53"):
        requant(0, 1, exact - 1, 1)
    with pytest.raises(Overflow):
        requant(-1, 0, 4 * exact, 1)
    assert requant(0, 1, exact // 2 - 1, 1, count=2).low[0] == -128
    with pytest.raises(Overflow):
        requant(0, 1, exact // 2, 1, count=2)


WINDOW = {"stride": (1, 1), "padding": (0,) * 4, "dilation": (1, 1)}
X, SMALL_X = (
    Value(name="x", dtype="int8", shape=(4, 6, 6)),
    Value(name="x", dtype="int8", shape=(5, 4)),
)


def shape_of(kind, x, *consts, **attrs):
    """Shape of the result for constants given as (dtype, shape)."""
    values = [Value(name=f"c{i}", dtype=d, shape=s) for i, (d, s) in enumerate(consts)]
    arrays = {v.name: np.zeros(v.shape, v.dtype) for v in values}
    names = (x.name, *arrays)
    return infer(Op(kind=kind, inputs=names, output="y", attrs=attrs), [x, *values], arrays)


def test_shapes_of_products():
    w, b = ("int8", (8, 2, 3, 3)), ("int32", (8,))
    wide = {**WINDOW, "padding": (1, 0, 1, 0)}
    assert shape_of("conv", X, w, b, groups=2, **WINDOW) == ("int32", (8, 4, 4))
    assert shape_of("conv", X, w, groups=2, **wide) == ("int32", (8, 6, 4))
    up = {"stride": (2, 3), "padding": (1, 0, 0, 2), "dilation": (1, 2), "output_padding": (1, 2)}
    got = shape_of("conv_transpose", X, ("int8", (4, 3, 3, 2)), ("int32", (6,)), groups=2, **up)
    # torch: (in - 1) stride - padding + dilation (kernel - 1) + output_padding + 1
    assert got == ("int32", (6, 5 * 2 - 1 + 2 + 1 + 1, 5 * 3 - 2 + 2 + 2 + 1))
    assert shape_of("linear", SMALL_X, ("int8", (3, 4)), ("int32", (3,))) == ("int32", (5, 3))


@pytest.mark.parametrize(
    "kind, x, consts, attrs",
    [
        ("conv", X, [("int8", (8, 2, 3, 3))], {"groups": 1, **WINDOW}),
        ("conv", X, [("int8", (7, 2, 3, 3))], {"groups": 2, **WINDOW}),
        ("conv", X, [("int8", (8, 2, 3, 3)), ("int32", (7,))], {"groups": 2, **WINDOW}),
        ("conv", X, [("int8", (8, 2, 3, 3)), ("int8", (8,))], {"groups": 2, **WINDOW}),
        ("conv", SMALL_X, [("int8", (8, 4, 3, 3))], {"groups": 1, **WINDOW}),
        ("conv_transpose", X, [("int8", (5, 3, 3, 2))],
         {"groups": 1, "output_padding": (0, 0), **WINDOW}),
        ("conv_transpose", X, [("int8", (4, 3, 3, 2))],
         {"groups": 3, "output_padding": (0, 0), **WINDOW}),
        ("conv_transpose", X, [("int8", (4, 3, 3, 2))],
         {"groups": 2, "output_padding": (1, 0), **WINDOW}),
        ("linear", SMALL_X, [("int8", (3, 5))], {}),
        ("linear", SMALL_X, [("int32", (3, 4))], {}),
    ],
)  # fmt: skip
def test_operands_that_do_not_fit_are_refused(kind, x, consts, attrs):
    with pytest.raises(Malformed):
        shape_of(kind, x, *consts, **attrs)


@pytest.mark.parametrize(
    "a, b, result",
    [((2, 3), (3, 4), (2, 4)), ((5, 2, 3), (1, 3, 4), (5, 2, 4)), ((2, 3), (4, 3), None),
     ((3,), (3,), None), ((2, 2, 3), (3, 4), None)],
)  # fmt: skip
def test_shapes_of_matrix_products(a, b, result):
    values = [Value(name=n, dtype="int8", shape=s) for n, s in (("a", a), ("b", b))]
    op = Op(kind="matmul", inputs=("a", "b"), output="y", attrs={})
    if result is None:
        with pytest.raises(Malformed):
            infer(op, values, {})
    else:
        assert infer(op, values, {}) == ("int32", result)


def requant_of(*shapes, axis=1, dtypes=None):
    """Shape of the sum of requantized values; the last shapes are those of its constants."""
    count = (len(shapes) - 1) // 2
    names = [f"v{i}" for i in range(len(shapes))]
    dtypes = dtypes or ["int32"] * count + ["int64"] * (len(shapes) - count)
    values = [
        Value(name=n, dtype=d, shape=s) for n, d, s in zip(names, dtypes, shapes, strict=True)
    ]
    attrs = {"dtype": "int8", "low": -128, "high": 127, "rounding": "half_up", "axis": axis}
    arrays = {v.name: np.ones(v.shape, np.int64) for v in values[count:]}
    return infer(Op(kind="requant", inputs=tuple(names), output="y", attrs=attrs), values, arrays)


def test_a_requantization_has_the_shape_of_its_operands():
    x = (4, 6)
    assert requant_of(x, (1,), (4,)) == ("int8", x)
    assert requant_of(x, (6,), (6,), axis=2) == ("int8", x)
    assert requant_of(x, x, (4,), (1,), (1,)) == ("int8", x)
    assert requant_of((), (1,), (1,)) == ("int8", ())


@pytest.mark.parametrize(
    "shapes, more",
    [(((4, 6), (4,)), {}), (((4, 6), (4, 6), (1,), (1,)), {}),
     (((4, 6), (4, 5), (1,), (1,), (1,)), {}), (((4, 6), (6,), (1,)), {}),
     (((4, 6), (1,), (4,)), {"axis": 2}), (((4, 6), (1,), (2,)), {}),
     (((), (2,), (1,)), {}), (((4, 6), (1,), (1,)), {"dtypes": ["int64", "int64", "int64"]}),
     (((4, 6), (1,), (1,)), {"dtypes": ["int32", "int32", "int64"]})],
)  # fmt: skip
def test_a_requantization_that_is_malformed_is_refused(shapes, more):
    with pytest.raises(Malformed):
        requant_of(*shapes, **more)


def test_which_operands_are_no_constants():
    counts = {
        (name, count): KINDS[name].activations(count)
        for name, count in [("requant", 3), ("requant", 5), ("requant", 9), ("conv", 2),
                            ("conv", 3), ("linear", 3), ("conv_transpose", 2), ("matmul", 2)]
    }  # fmt: skip
    assert list(counts.values()) == [1, 2, 4, 1, 1, 1, 1, 2]
