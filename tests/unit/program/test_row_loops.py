"""Loops over rows give the referee's integers, as Python runs them and as numba compiles them."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch

from qatspec.kinds import loops
from qatspec.kinds.products.bytes import linears_are_exact, matmuls_are_exact
from qatspec.program import Program, ProgramBuilder
from qatspec.program.executor import Executor
from qatspec.referee import interpret
from qatspec.types import Arithmetic

ROUNDINGS = "half_up", "half_even", "floor"
LIMITS = {"int8": (-128, 127), "uint8": (0, 255)}
ENDS = {"int8": (-128, 128, np.int8), "uint8": (0, 256, np.uint8)}


@pytest.fixture
def in_python(monkeypatch):
    """Loops for tensors of any size, run by Python; gives those that were used."""
    used = []
    monkeypatch.setattr(loops, "LEAST", 1)
    monkeypatch.setattr(loops, "installed", lambda: True)
    monkeypatch.setattr(loops, "_compiled", lambda loop: used.append(loop) or loop)
    return used


def of_range(rng, shape, low=-128, high=128, dtype=np.int8) -> np.ndarray:
    """Integers of which a third are at the ends."""
    x = rng.integers(low, high, shape)
    return np.where(rng.random(shape) < 0.3, rng.choice([low, high - 1], shape), x).astype(dtype)


def assert_equal(program: Program, steps: int, *ints: np.ndarray) -> None:
    """The referee's integers, from so many steps."""
    assert len(Executor(program)._fused) == steps
    for got, expected in zip(program.run(*ints), interpret(program, *ints), strict=True):
        np.testing.assert_array_equal(got, expected)


def need_products_of_bytes() -> None:
    """Sums come from one step with their rounding where torch's kernels of bytes are exact."""
    if not (linears_are_exact() and matmuls_are_exact()):
        pytest.skip("products of bytes are not exact on this CPU: the executor has other steps")


def sums_of(rng, rounding: str, dtype: str, terms: int) -> Program:
    """A linear layer with multipliers of either sign, and bytes that are added to its sums."""
    builder = ProgramBuilder("sums", None, Arithmetic(rounding=rounding))
    x = builder.input("x", "int8", (5, 16), 1.0)
    w = builder.const("w", "int8", of_range(rng, (40, 16)))
    b = builder.const("b", "int32", rng.integers(-(2**22), 2**22, 40).astype(np.int32))
    sums = builder.emit("linear", [x, w, b], name="sums", scale=1.0)
    m = builder.const("m", "int64", rng.choice([-1, 1], 40) * rng.integers(1, 2**16, 40))
    s = builder.const("s", "int64", rng.integers(20, 30, 40))
    operands = [sums, m, s]
    if terms == 2:
        y = builder.input("y", "uint8", (5, 40), 1.0)
        n = builder.const("n", "int64", np.full(40, 2**29 + 1))
        operands = [sums, y, m, n, s]
    low, high = LIMITS[dtype]
    q = builder.emit(
        "requant", operands, name="q", scale=1.0, dtype=dtype, rounding=rounding, axis=2,
        low=low, high=high - 9,
    )  # fmt: skip
    return builder.finish([q], [0])


def table_of(rng, dtype: str, shape: tuple[int, ...]) -> Program:
    """A table of bytes over bytes."""
    builder = ProgramBuilder("table", None, Arithmetic())
    x = builder.input("x", dtype, shape, 1.0)
    t = builder.const("t", "int8", rng.integers(-128, 128, 256).astype(np.int8))
    return builder.finish([builder.emit("lut", [x, t], name="y", scale=1.0, dtype="int8")], [0])


def norm_of(rng, rounding: str, dtype: str) -> Program:
    """A layer norm with a scale and an offset a channel."""
    builder = ProgramBuilder("norm", None, Arithmetic(rounding=rounding))
    x = builder.input("x", "int8", (6, 48), 1.0)
    y = builder.emit(
        "standardize", [x], name="standard", scale=1.0, axes=(2,), epsilon=34, bits=12, root_bits=12
    )
    w = builder.const("w", "int8", of_range(rng, 48))
    b = builder.const("b", "int32", rng.integers(-(2**18), 2**18, 48).astype(np.int32))
    z = builder.emit("affine", [y, w, b], name="affine", scale=1.0, axis=2)
    m = builder.const("m", "int64", np.array([40001]))
    s = builder.const("s", "int64", np.array([27]))
    low, high = LIMITS[dtype]
    q = builder.emit(
        "requant", [z, m, s], name="q", scale=1.0, dtype=dtype, rounding=rounding, axis=2,
        low=low, high=high,
    )  # fmt: skip
    return builder.finish([q], [0])


def softmax_of(rng, rounding: str, dtype: str, *, product: bool) -> Program:
    """A softmax of bytes, or of the requantized product of two matrices."""
    builder = ProgramBuilder("softmax", None, Arithmetic(rounding=rounding))
    if product:
        x = builder.input("x", "int8", (2, 5, 16), 1.0)
        y = builder.input("y", "int8", (2, 16, 40), 1.0)
        sums = builder.emit("matmul", [x, y], name="sums", scale=1.0)
        m, s = (builder.const(c, "int64", np.array([v])) for c, v in (("m", 40001), ("s", 26)))
        q = builder.emit(
            "requant", [sums, m, s], name="q", scale=1.0, dtype="int8", rounding=rounding, axis=1,
            low=-128, high=127,
        )  # fmt: skip
    else:
        q = builder.input("x", "int8", (2, 5, 40), 1.0)
    table = np.floor(30000 * np.exp(-np.arange(256) / 20)).astype(np.int32)
    t = builder.const("t", "int32", table)
    e = builder.emit("exp_below_max", [q, t], name="exp", scale=1.0, axis=3, dtype="int32")
    total = builder.emit("reduce_sum", [e], name="total", scale=1.0, axes=(3,), keepdim=True)
    low, high = LIMITS[dtype]
    last = builder.emit(
        "divide", [e, total], name="quotient", scale=1.0, dtype=dtype, low=low, high=high,
        multiplier=49459, shift=8, rounding=rounding,
    )  # fmt: skip
    return builder.finish([last], [0])


@pytest.mark.usefixtures("in_python")
@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize("dtype", LIMITS)
class TestInPython:
    @pytest.mark.parametrize("terms", [1, 2])
    def test_sums(self, in_python, rounding, dtype, terms):
        need_products_of_bytes()
        rng = np.random.default_rng(0)
        program = sums_of(rng, rounding, dtype, terms)
        ints = [of_range(rng, (3, 5, 16))]
        if terms == 2:
            ints.append(of_range(rng, (3, 5, 40), 0, 256, np.uint8))
        assert_equal(program, 1, *ints)
        assert in_python == [loops.requantize_one if terms == 1 else loops.requantize_two]

    def test_norms(self, rounding, dtype):
        rng = np.random.default_rng(0)
        program = norm_of(rng, rounding, dtype)
        x = of_range(rng, (3, 6, 48))
        x[0, 0] = 7  # without a variance
        assert_equal(program, 1, x)

    def test_tables(self, in_python, rounding, dtype):
        rng = np.random.default_rng(0)
        x = of_range(rng, (3, 6, 33), *ENDS[dtype])
        assert_equal(table_of(rng, dtype, (6, 33)), 1, x)
        images = of_range(rng, (2, 5, 4, 3), *ENDS[dtype])
        assert_equal(table_of(rng, dtype, (5, 4, 3)), 1, images)
        assert in_python == [loops.look_up] * 2

    @pytest.mark.parametrize("product", [False, True])
    def test_softmax(self, rounding, dtype, product):
        if product:
            need_products_of_bytes()
        rng = np.random.default_rng(0)
        program = softmax_of(rng, rounding, dtype, product=product)
        shapes = (port.shape for port in program.inputs)
        ints = [of_range(rng, (3, *shape)) for shape in shapes]
        chained = rounding != "half_even"  # whose quotients are divisions
        assert_equal(program, 1 if chained else 3 + product, *ints)


def test_a_numba_that_cannot_be_imported_is_none(monkeypatch):
    monkeypatch.setitem(sys.modules, "numba", None)
    assert not loops.installed.__wrapped__()


PROGRAMS = [
    lambda rng: sums_of(rng, "half_up", "int8", 1),
    pytest.param(lambda rng: sums_of(rng, "half_even", "uint8", 2), marks=pytest.mark.slow),
    lambda rng: table_of(rng, "int8", (6, 33)),
    pytest.param(lambda rng: norm_of(rng, "half_up", "int8"), marks=pytest.mark.slow),
    pytest.param(
        lambda rng: softmax_of(rng, "half_up", "int8", product=True), marks=pytest.mark.slow
    ),
]


@pytest.mark.parametrize("build", PROGRAMS, ids=["one", "two", "table", "norm", "softmax"])
def test_numba_compiles_them(monkeypatch, build):
    """In two threads, which share the rows out."""
    pytest.importorskip("numba", reason="the extra `fast` is not installed")
    monkeypatch.setattr(loops, "LEAST", 1)
    monkeypatch.setattr(loops, "SHARE", 8)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    rng = np.random.default_rng(0)
    program = build(rng)
    ints = [of_range(rng, (3, *port.shape), *ENDS[port.dtype]) for port in program.inputs]
    assert_equal(program, 1, *ints)
