"""The fast executor equals the interpreter at the edges of its exactness and of torch's kernels."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest
import torch

from qatspec.ir import RANGE
from qatspec.kinds.requantization import step
from qatspec.kinds.requantization.step import BLOCK
from qatspec.lower import lower
from qatspec.program import Program, ProgramBuilder
from qatspec.referee import interpret
from qatspec.types import Arithmetic

REACH = {"int8": 128, "int16": 32768}


def conv_program(rng, *, channels, out, groups, size, kernel, dtype="int8", **attrs) -> Program:
    """A convolution with its sums as an output, and one whose sums are requantized in place."""
    builder = ProgramBuilder(
        "conv", None, Arithmetic(rounding=str(rng.choice(["half_up", "floor", "half_even"])))
    )
    x = builder.input("x", dtype, (channels, *size), 1.0)
    weight = rng.integers(-128, 128, (out, channels // groups, *kernel)).astype(np.int8)
    w = builder.const("w", "int8", weight)
    b = builder.const("b", "int32", rng.integers(-(2**20), 2**20, out).astype(np.int32))
    attrs = {
        "stride": (1, 1),
        "padding": (0, 0, 0, 0),
        "dilation": (1, 1),
        "groups": groups,
        **attrs,
    }
    sums, read = (
        builder.emit("conv", [x, w, b], name=name, scale=1.0, **attrs) for name in ("sums", "read")
    )
    shift = int(np.ceil(np.log2(weight.size / out * REACH[dtype])))
    multiplier = builder.const("m", "int64", rng.integers(1, 2**16, out))
    q = builder.emit(
        "requant",
        [read, multiplier, builder.const("s", "int64", np.full(out, 16 + shift - 3))],
        name="q", scale=1.0, dtype="int8", axis=1, rounding=builder.arithmetic.rounding,
        low=-128, high=127,
    )  # fmt: skip
    return builder.finish([sums, q], [0, 1])


def extremes(rng, program: Program, batch: int) -> np.ndarray:
    """Inputs of which many are the lowest or the highest."""
    port = program.inputs[0]
    low, high = -REACH[port.dtype], REACH[port.dtype] - 1
    x = rng.integers(low, high + 1, (batch, *port.shape))
    return np.where(rng.random(x.shape) < 0.5, rng.choice([low, high], x.shape), x).astype(
        port.dtype
    )


def assert_equal(program: Program, x: np.ndarray) -> None:
    for found, expected in zip(program.run(x), interpret(program, x), strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("seed", range(6))
def test_convolutions_of_every_geometry(seed, monkeypatch):
    rng = np.random.default_rng(seed)
    if seed % 2:  # in blocks, which small tensors are not otherwise
        monkeypatch.setattr(step, "FEW", 0)
    for _ in range(25):
        groups = int(rng.choice([1, 1, 2, 5]))
        per_group = int(rng.choice([1, 1, 2, 3, 17]))
        kernel, dilation = rng.integers(1, 5, 2), rng.integers(1, 3, 2)
        size = np.maximum(rng.integers(1, 10, 2), dilation * (kernel - 1) + 1)
        padding = rng.integers(0, 5, 4)
        program = conv_program(
            rng,
            channels=groups * per_group,
            out=groups * int(rng.choice([1, 1, 2, 16])),
            groups=groups,
            size=tuple(int(v) for v in size),
            kernel=tuple(int(v) for v in kernel),
            dtype=str(rng.choice(["int8", "int8", "int16"])),
            stride=tuple(int(v) for v in rng.integers(1, 4, 2)),
            dilation=tuple(int(v) for v in dilation),
            padding=tuple(int(v) for v in (*padding[:2], *padding[int(rng.choice([0, 2])) :][:2])),
        )
        assert_equal(program, extremes(rng, program, int(rng.integers(1, 4))))


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_max_pools_of_every_window(dtype):
    rng = np.random.default_rng(0)
    low, high = RANGE[dtype]
    for _ in range(20):
        kernel, dilation = rng.integers(1, 6, 2), rng.integers(1, 3, 2)
        size = np.maximum(rng.integers(1, 12, 2), dilation * (kernel - 1) + 1)
        attrs = {
            "kernel": kernel,
            "stride": rng.integers(1, 4, 2),
            "dilation": dilation,
            "padding": rng.integers(0, np.tile(dilation * (kernel - 1) + 1, 2)),
        }
        builder = ProgramBuilder("pool", None, Arithmetic())
        x = builder.input("x", dtype, (3, *(int(v) for v in size)), 1.0)
        windows = {key: tuple(int(v) for v in value) for key, value in attrs.items()}
        pooled = builder.emit("max_pool", [x], name="y", scale=1.0, **windows)
        program = builder.finish([pooled], [0])
        ints = rng.integers(low, high + 1, (2, *program.inputs[0].shape)).astype(dtype)
        assert_equal(program, ints)


def test_padding_beyond_the_reach_of_the_kernel():
    rng = np.random.default_rng(0)
    program = conv_program(
        rng, channels=2, out=2, groups=1, size=(3, 1), kernel=(1, 1), padding=(0, 2, 0, 2),
        stride=(2, 3), dilation=(1, 2),
    )  # fmt: skip
    assert_equal(program, extremes(rng, program, 3))


def test_blocks_of_requantization_meet():
    """More elements than two blocks, and a channel count that divides neither block nor row."""
    rng = np.random.default_rng(0)
    channels, side = 37, 90
    program = conv_program(
        rng, channels=channels, out=channels, groups=channels, size=(side, side), kernel=(1, 1)
    )
    assert channels * side * side > 2 * BLOCK
    assert_equal(program, extremes(rng, program, 1))


def test_sums_just_below_the_exact_bound():
    """2^24 - 1 is the last integer behind which float32 has gaps: one more input needs float64."""
    for terms in (1032, 1033):
        builder = ProgramBuilder("dot", None, Arithmetic())
        x = builder.input("x", "int8", (terms,), 1.0)
        w = builder.const("w", "int8", np.full((1, terms), 127, np.int8))
        y = builder.emit("linear", [x, w], name="y", scale=1.0)
        program = builder.finish([y], [0])
        row = np.full((2, terms), -128, np.int8)
        row[1, 0] += 1  # an odd sum
        assert_equal(program, row)


def test_the_callers_settings_do_not_reach_the_kernels():
    rng = np.random.default_rng(0)
    program = conv_program(rng, channels=16, out=16, groups=1, size=(8, 8), kernel=(3, 3))
    x = extremes(rng, program, 1)
    try:
        torch.set_float32_matmul_precision("medium")
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert_equal(program, x)
        assert torch.get_float32_matmul_precision() == "medium"
        assert torch.backends.mkldnn.matmul.fp32_precision == "bf16"
    finally:
        torch.set_float32_matmul_precision("highest")


def test_a_program_that_ran_can_be_freed(everything):
    prepared, x = everything
    program = lower(prepared, (x,))
    program.run(*program.quantize(x.numpy()))
    alive = weakref.ref(program)
    del program
    gc.collect()
    assert alive() is None
