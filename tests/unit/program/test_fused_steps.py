"""Products and their requantization in one kernel: used where proven, and equal to the referee."""

from __future__ import annotations

import numpy as np
import pytest

from qatspec.kinds.products.bytes import (
    convs_round_once,
    linears_round_once,
    matmuls_are_exact,
)
from qatspec.kinds.requantization import step
from qatspec.program import Program, ProgramBuilder
from qatspec.program.executor import Executor
from qatspec.referee import interpret
from qatspec.types import Arithmetic

#: Ratios that float32's lines hold; negative ones are never proven.
PROVEN = 2.0**-8, 2.0**-4


def program_of(rng, kind: str, *, unproven: float, limits, dtype: str, rounding: str) -> Program:
    """A product of 32 channels with its requantization. unproven: share of channels without a
    line."""
    builder = ProgramBuilder("fused", None, Arithmetic(rounding=rounding))
    channels = 32
    x = builder.input("x", "int8", (channels, 6, 5) if kind != "linear" else (7, channels), 1.0)
    size = {
        "linear": (channels, channels),
        "depthwise": (channels, 1, 3, 3),
        "pairs": (channels // 2, 2, 3, 3),
    }
    weight = rng.integers(-128, 128, size.get(kind, (channels, channels, 3, 3)))
    w = builder.const("w", "int8", weight.astype(np.int8))
    b = builder.const("b", "int32", rng.integers(-9000, 9000, len(weight)).astype(np.int32))
    groups = {"depthwise": channels, "pairs": channels // 2}.get(kind, 1)
    channels = len(weight)
    attrs = {"stride": (2, 1), "padding": (1, 1, 1, 1), "dilation": (1, 1), "groups": groups}
    name = "linear" if kind == "linear" else "conv"
    sums = builder.emit(
        name, [x, w, b], name="sums", scale=1.0, **(attrs if name == "conv" else {})
    )
    ratio = rng.uniform(*PROVEN, channels)
    ratio[: round(unproven * channels)] *= -1
    m = builder.const("m", "int64", np.rint(ratio * 2.0**30).astype(np.int64) | 1)
    s = builder.const("s", "int64", np.full(channels, 30, np.int64))
    q = builder.emit(
        "requant", [sums, m, s], name="q", scale=1.0, dtype=dtype, rounding=rounding,
        axis=2 if kind == "linear" else 1, low=limits[0], high=limits[1],
    )  # fmt: skip
    return builder.finish([q], [0])


@pytest.mark.parametrize("rounding", ["half_up", "half_even", "floor"])
@pytest.mark.parametrize("kind", ["conv", "depthwise", "pairs", "linear"])
@pytest.mark.parametrize("unproven", [0.0, 0.04, 0.2, 1.0], ids=["all", "but few", "most", "none"])
def test_a_fused_step_equals_the_referee(kind, unproven, rounding, monkeypatch):
    rng = np.random.default_rng(0)
    fits = linears_round_once() if kind == "linear" else convs_round_once()
    for limits, dtype in [((-128, 127), "int8"), ((0, 90), "int8"), ((0, 255), "uint8")]:
        options = {"limits": limits, "dtype": dtype, "rounding": rounding}
        program = program_of(rng, kind, unproven=unproven, **options)
        executor = Executor(program)
        picked = kind != "pairs" or unproven == 0  # two inputs a channel are not picked
        of_int32 = kind == "linear" and matmuls_are_exact()  # whether or not there are lines
        one = fits and (of_int32 or (picked and unproven < 1))
        assert len(executor._fused) == (1 if one else 2)
        for batch, few in ((1, step.FEW), (3, step.FEW), (3, 0)):  # at once, and in blocks
            monkeypatch.setattr(step, "FEW", few)
            shape = (batch, *program.inputs[0].shape)
            x = rng.integers(-128, 128, shape).astype(np.int8)
            x = np.where(rng.random(shape) < 0.3, 0, x)
            (found,), (expected,) = executor.run([x]), interpret(program, x)
            np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("clamped", [True, False], ids=["clamped", "not clamped"])
@pytest.mark.parametrize("kind", ["conv", "linear"])
def test_sums_beyond_float32_that_are_clamped(kind, clamped):
    """The channels without a line are computed by sums that float32 rounds, if every such sum is
    clamped."""
    rng = np.random.default_rng(0)
    builder = ProgramBuilder("large", None, Arithmetic())
    linear, channels = kind == "linear", 640
    x = builder.input("x", "uint8", (7, channels) if linear else (channels, 6, 5), 1.0)
    weight = rng.integers(-128, 128, (32, channels) if linear else (32, channels, 1, 1))
    weight[:3] = np.array([127, -128, 127]).reshape(3, *[1] * (weight.ndim - 1))
    w = builder.const("w", "int8", weight.astype(np.int8))
    b = builder.const("b", "int32", rng.integers(-9000, 9000, 32).astype(np.int32))
    ends = (0, 0, 0, 0)
    attrs = {"stride": (1, 1), "padding": ends, "dilation": (1, 1), "groups": 1}
    sums = builder.emit(kind, [x, w, b], name="sums", scale=1.0, **({} if linear else attrs))
    ratio = rng.uniform(2.0**-16, 2.0**-15, 32) if clamped else np.full(32, 2.0**-18)
    m = builder.const("m", "int64", np.rint(ratio * 2.0**34).astype(np.int64) | 1)
    s = builder.const("s", "int64", np.full(32, 34, np.int64))
    q = builder.emit(
        "requant", [sums, m, s], name="q", scale=1.0, dtype="int8", rounding="half_up",
        axis=2 if linear else 1, low=-128, high=127,
    )  # fmt: skip
    program = builder.finish([q], [0])
    executor = Executor(program)
    fits = linears_round_once() if linear else convs_round_once()
    assert len(executor._fused) == (1 if fits and clamped else 2)
    ints = rng.integers(0, 256, (2, *program.inputs[0].shape)).astype(np.uint8)
    ints[0] = 255
    np.testing.assert_array_equal(executor.run([ints])[0], interpret(program, ints)[0])


def test_who_watches_sees_the_sums():
    """A watch sees the result of each op, and what it puts there is computed with."""
    rng = np.random.default_rng(0)
    options = {"limits": (-128, 127), "dtype": "int8", "rounding": "half_up"}
    program = program_of(rng, "conv", unproven=0.0, **options)
    names = []

    def watch(name, tensor):
        names.append(name)
        return tensor.zero_() if name == "sums" else tensor

    x = rng.integers(-128, 128, (1, *program.inputs[0].shape)).astype(np.int8)
    (zeros,) = Executor(program).run([x], watch)
    assert names == [op.output for op in program.ops]
    assert not zeros.any()


def test_a_sum_that_float32_does_not_hold_is_added_in_parts():
    """2048 input channels of extreme weights: float64 is needed for the sum, float32 for parts."""
    builder = ProgramBuilder("wide", None, Arithmetic())
    rng = np.random.default_rng(0)
    x = builder.input("x", "int8", (2048, 3, 3), 1.0)
    w = builder.const("w", "int8", rng.choice([127, 126], (4, 2048, 1, 1)).astype(np.int8))
    b = builder.const("b", "int32", np.arange(4, dtype=np.int32) - 2)
    attrs = {"stride": (1, 1), "padding": (0, 0, 0, 0), "dilation": (1, 1), "groups": 1}
    program = builder.finish([builder.emit("conv", [x, w, b], name="y", scale=1.0, **attrs)], [0])
    ints = np.full((2, 2048, 3, 3), 127, np.int8)
    ints[1] = rng.integers(-128, 128, ints[1].shape)
    np.testing.assert_array_equal(program.run(ints)[0], interpret(program, ints)[0])


@pytest.mark.parametrize("shift", [6, 16, 30])
@pytest.mark.parametrize("rounding", ["half_up", "half_even", "floor"])
@pytest.mark.parametrize("extra", [0, 1], ids=["int32 holds it", "int32 does not"])
def test_sums_of_bytes_at_the_bound_of_int32(extra, rounding, shift):
    """All 65536 pairs, with multipliers whose largest sum is just below 2^31 or just not."""
    builder = ProgramBuilder("sum", None, Arithmetic(rounding=rounding))
    x, y = (builder.input(name, "int8", (1, 256), 1.0) for name in "xy")
    half = (1 << shift) >> 1
    first = (2**31 - 1 - half) // 128 - 40000 + extra * 128
    m, n = (builder.const(c, "int64", np.array([v])) for c, v in (("m", first), ("n", 40000)))
    s = builder.const("s", "int64", np.array([shift]))
    q = builder.emit(
        "requant", [x, y, m, n, s], name="q", scale=1.0, dtype="int8", rounding=rounding,
        axis=1, low=-128, high=127,
    )  # fmt: skip
    program = builder.finish([q], [0])
    steps = np.arange(-128, 128, dtype=np.int8)
    ints = [np.tile(steps, (256, 1, 1)), np.repeat(steps, 256).reshape(256, 1, 256)]
    np.testing.assert_array_equal(program.run(*ints)[0], interpret(program, *ints)[0])
