"""Steps that multiply by an inverse or read int32 sums as they are: equal to the referee, at ties,
at the largest numbers and for shapes that no block fits."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from qatspec.kinds.exact import NEAR
from qatspec.kinds.products.bytes import (
    IntLinear,
    byte_matmul,
    linears_are_exact,
    matmuls_are_exact,
)
from qatspec.kinds.tables.step import lut
from qatspec.program import Program, ProgramBuilder
from qatspec.program.executor import Executor
from qatspec.referee import interpret
from qatspec.types import Arithmetic

ROUNDINGS = "half_up", "half_even", "floor"


def assert_equal(program: Program, *ints: np.ndarray) -> None:
    for found, expected in zip(program.run(*ints), interpret(program, *ints), strict=True):
        np.testing.assert_array_equal(found, expected)


def of_range(rng, shape, low=-128, high=128, dtype=np.int8) -> np.ndarray:
    """Integers of which a third are at the ends."""
    x = rng.integers(low, high, shape)
    return np.where(rng.random(shape) < 0.3, rng.choice([low, high - 1], shape), x).astype(dtype)


@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize("shape", [(5, 64), (1, 1), (197, 40)])
@pytest.mark.parametrize("terms", [1, 2])
def test_a_linear_layer_whose_channels_have_no_line(terms, shape, rounding):
    """Half of the multipliers are negative. The sums alone, and added to bytes on either side."""
    rng = np.random.default_rng(0)
    tokens, channels = shape
    builder = ProgramBuilder("sums", None, Arithmetic(rounding=rounding))
    x = builder.input("x", "int8", shape, 1.0)
    w = builder.const("w", "int8", of_range(rng, (40, channels)))
    b = builder.const("b", "int32", rng.integers(-(2**22), 2**22, 40).astype(np.int32))
    sums = builder.emit("linear", [x, w, b], name="sums", scale=1.0)
    m = builder.const("m", "int64", rng.choice([-1, 1], 40) * rng.integers(1, 2**16, 40))
    n = builder.const("n", "int64", np.full(40, 2**29 + 1))
    s = builder.const("s", "int64", rng.integers(20, 30, 40))
    last = {"name": "q", "scale": 1.0, "dtype": "int8", "rounding": rounding, "axis": 2}
    limits = {"low": -128, "high": 100}
    if terms == 1:
        q = builder.emit("requant", [sums, m, s], **last, **limits)
        program = builder.finish([q], [0])
        inputs = ["x"]
    else:
        y = builder.input("y", "int8", (tokens, 40), 1.0)
        first, second = (y, sums) if rounding != "floor" else (sums, y)
        scales = (n, m) if rounding != "floor" else (m, n)
        q = builder.emit("requant", [first, second, *scales, s], **last, **limits)
        program = builder.finish([q], [0])
        inputs = ["x", "y"]
    if linears_are_exact() and matmuls_are_exact():
        assert len(Executor(program)._fused) == 1
    shapes = {port.name: port.shape for port in program.inputs}
    for batch in (1, 7):
        assert_equal(program, *(of_range(rng, (batch, *shapes[name])) for name in inputs))


@pytest.mark.parametrize("sizes", [(1, 1, 40), (1, 16, 40), (5, 1, 40), (5, 16, 1), (1, 16, 1)])
def test_matrices_with_a_dim_of_one_may_have_any_stride_there(sizes):
    """torch's kernel reads beyond the data where such a stride is smaller than a row."""
    rng = np.random.default_rng(0)
    m, k, n = sizes
    a, b = of_range(rng, (m, k)), of_range(rng, (k, n))
    for stride in (1, 7, 1000):
        x, y = torch.zeros(9000, dtype=torch.int8), torch.zeros(9000, dtype=torch.int8)
        x = x.as_strided((m, k), (stride if m == 1 else k, stride if k == 1 else 1))
        y = y.as_strided((k, n), (stride if k == 1 else n, stride if n == 1 else 1))
        x.copy_(torch.from_numpy(a)), y.copy_(torch.from_numpy(b))
        expected = a.astype(np.int32) @ b.astype(np.int32)
        np.testing.assert_array_equal(byte_matmul(x, y).numpy(), expected)
        np.testing.assert_array_equal(IntLinear(y.t())(x).numpy(), expected)


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
@pytest.mark.parametrize("heads", [1, 3])
def test_products_of_matrices_are_requantized_from_int32(heads, dtype):
    rng = np.random.default_rng(0)
    builder = ProgramBuilder("heads", None, Arithmetic())
    x = builder.input("x", "int8", (heads, 33, 16), 1.0)
    y = builder.input("y", "int8", (heads, 16, 70), 1.0)
    sums = builder.emit("matmul", [x, y], name="sums", scale=1.0)
    m, s = (builder.const(c, "int64", np.array([v])) for c, v in (("m", 40001), ("s", 25)))
    q = builder.emit(
        "requant", [sums, m, s], name="q", scale=1.0, dtype=dtype, rounding="half_up", axis=1,
        low=0 if dtype == "uint8" else -128, high=255 if dtype == "uint8" else 127,
    )  # fmt: skip
    program = builder.finish([q], [0])
    for batch in (1, 7):
        shapes = (batch, heads, 33, 16), (batch, heads, 16, 70)
        assert_equal(program, *(of_range(rng, shape) for shape in shapes))


@pytest.mark.parametrize(
    ("dtype", "length"),
    [(d, n) for d in ("int8", "uint8") for n in (2, 3, 192, 4096)] + [("int16", 3), ("int16", 64)],
)
def test_norms_of_rows_that_are_constant_extreme_or_any(length, dtype):
    """Constant rows have a variance of 0, and of 4096 numbers the inverse is not near enough."""
    rng = np.random.default_rng(0)
    low, high = np.iinfo(dtype).min, np.iinfo(dtype).max + 1
    rows = of_range(rng, (2, 40, length), low, high, dtype)
    rows[0, 0], rows[0, 1], rows[0, 2] = low, high - 1, 0
    rows[0, 3], rows[0, 3, 0] = low, high - 1
    rows[0, 4:20] = rng.integers(-1 if low else 0, 2, (16, length))
    for epsilon in (0, 1, 1140):
        builder = ProgramBuilder("norm", None, Arithmetic())
        x = builder.input("x", dtype, (40, length), 1.0)
        attrs = {"axes": (2,), "bits": 10, "epsilon": epsilon, "root_bits": 8}
        y = builder.emit("standardize", [x], name="y", scale=1.0, **attrs)
        assert_equal(builder.finish([y], [0]), rows)


@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize("spread", [1, 2**15], ids=["exact", "beyond"])
def test_quotients_at_ties_and_at_the_bound_of_an_inverse(spread, rounding):
    """All pairs of small numbers, ties among them, of either sign and by 0; then a multiplier
    with which a product by the inverse is just not near enough."""
    steps = np.arange(-64, 64, dtype=np.int16)
    x, y = np.repeat(steps, 128).reshape(1, 128, 128), np.tile(steps, (1, 128, 1))
    for shift, multiplier in ((0, 1), (1, 1), (3, 5), (12, 49459)):
        builder = ProgramBuilder("quotient", None, Arithmetic(rounding=rounding))
        a, b = (builder.input(name, "int16", (128, 128), 1.0) for name in "ab")
        q = builder.emit(
            "divide", [a, b], name="q", scale=1.0, dtype="int8", low=-100, high=127,
            multiplier=multiplier * spread, shift=shift, rounding=rounding,
        )  # fmt: skip
        assert_equal(builder.finish([q], [0]), x, y)


def test_an_inverse_is_near_enough_up_to_its_bound():
    """Dividends around multiples of half the divisor, up to the bound, in float64 as the steps
    compute."""
    rng = np.random.default_rng(0)
    for bits in (1, 5, 20, 30, 46):
        r = rng.integers(1 << (bits - 1), 1 << bits, 2000).astype(object)
        most = [max((NEAR - int(d)) // int(d), 1) for d in r]
        k = [int(rng.integers(0, 2 * m)) for m in most]
        for away in (-1, 0, 1):
            a = [(q * d + 1) // 2 + away for q, d in zip(k, r, strict=True)]
            inverse = 1 / np.array(r, np.float64)
            found = np.floor(np.array(a, np.float64) * inverse + (0.25 * inverse + 0.5))
            assert [int(v) for v in found] == [
                (2 * n + d) // (2 * d) for n, d in zip(a, r, strict=True)
            ]


@pytest.mark.parametrize("dtypes", [("int8", "int8"), ("uint8", "int8"), ("int8", "uint8")])
@pytest.mark.parametrize("shape", [(1,), (3, 5), (4, 6, 8)])
def test_tables_of_bytes_in_pairs(shape, dtypes):
    rng = np.random.default_rng(0)
    builder = ProgramBuilder("table", None, Arithmetic())
    x = builder.input("x", dtypes[0], shape, 1.0)
    low, high = (np.iinfo(dtypes[1]).min, np.iinfo(dtypes[1]).max + 1)
    t = builder.const("t", dtypes[1], of_range(rng, (256,), low, high, dtypes[1]))
    y = builder.emit("lut", [x, t], name="y", scale=1.0, dtype=dtypes[1])
    program = builder.finish([y], [0])
    low, high = (np.iinfo(dtypes[0]).min, np.iinfo(dtypes[0]).max + 1)
    for batch in (1, 2, 7):
        ints = of_range(rng, (batch, *shape), low, high, dtypes[0])
        assert_equal(program, ints)
    step, expected = lut(Executor(program)._exact, program.ops[0]), interpret(program, ints)[0]
    behind = torch.from_numpy(np.concatenate([[0], ints.reshape(-1)]).astype(dtypes[0]))[1:]
    np.testing.assert_array_equal(step(behind).numpy().reshape(ints.shape), expected)
    spread = torch.from_numpy(np.repeat(ints.reshape(-1), 2))[::2]  # a view with steps
    np.testing.assert_array_equal(step(spread).numpy().reshape(ints.shape), expected)
