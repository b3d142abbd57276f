"""Kernels of 8-bit products are used where they prove themselves on this CPU, and nowhere else."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from qatspec.kinds.products import bytes as kernels, step
from qatspec.program import ProgramBuilder
from qatspec.program.executor import Executor
from qatspec.referee import interpret
from qatspec.types import Arithmetic

PROOFS = (
    kernels.convs_are_exact,
    kernels.linears_are_exact,
    kernels.matmuls_are_exact,
    kernels.convs_round_once,
    kernels.linears_round_once,
)


@pytest.fixture(autouse=True)
def asked_anew():
    """The answers about this CPU are remembered; a test that breaks a kernel must not leave one."""
    for proof in PROOFS:
        proof.cache_clear()
    yield
    for proof in PROOFS:
        proof.cache_clear()


def saturated(sums: torch.Tensor) -> torch.Tensor:
    """As a CPU whose products are added in pairs of 16 bits has them."""
    return sums.clamp(-32768, 32767)


def saturating_conv(x, sx, zero, w, sw, zw, bias, stride, padding, dilation, groups, *rest):
    weight = w.dequantize() if w.is_quantized else w
    sums = F.conv2d(x.double() - zero, weight.double(), None, stride, padding, dilation, groups)
    return (saturated(sums) + bias.view(-1, 1, 1)).float()


def test_a_convolution_that_saturates_is_found(monkeypatch):
    monkeypatch.setattr(kernels._OPS, "qconv_prepack", lambda w, *rest: w)
    monkeypatch.setattr(kernels._OPS, "qconv2d_pointwise", saturating_conv)
    assert not kernels.convs_are_exact()


def test_a_linear_layer_that_saturates_is_found(monkeypatch):
    def linear(x, sx, zero, w, sw, zw, bias, *rest):
        return (saturated((x.double() - zero) @ w.double().T) + bias).float()

    monkeypatch.setattr(kernels._OPS, "qlinear_prepack", lambda w, shape: w)
    monkeypatch.setattr(kernels._OPS, "qlinear_pointwise", linear)
    assert not kernels.linears_are_exact()


def test_a_product_of_matrices_that_saturates_is_found(monkeypatch):
    def product(x, y, out):
        return out.copy_(saturated(x.double() @ y.double()))

    monkeypatch.setattr(torch, "_int_mm", product)
    assert not kernels.matmuls_are_exact()


@pytest.mark.parametrize("way", ["up", "toward zero"])
@pytest.mark.parametrize("kind", ["conv", "linear"])
def test_a_kernel_that_rounds_another_way_is_found(monkeypatch, kind, way):
    """Half up differs from half even on ties alone."""
    proof = {"conv": kernels.convs_round_once, "linear": kernels.linears_round_once}[kind]
    if not proof():
        pytest.skip("this CPU has no such kernel")
    proof.cache_clear()
    name = {"conv": "qconv2d_pointwise", "linear": "qlinear_pointwise"}[kind]
    kernel = getattr(kernels._OPS, name)

    def other(*arguments):
        at = next(
            i for i, a in enumerate(arguments) if a in (torch.int8, torch.uint8, torch.float32)
        )
        if arguments[at] is torch.float32:
            return kernel(*arguments)
        dtype, limits = arguments[at], arguments[at + 2] or None
        info = torch.iinfo(dtype)
        real = kernel(*arguments[:at], torch.float32, "none", [], "").double()
        rounded = (real + 0.5).floor() if way == "up" else real.trunc()
        return rounded.clamp(*(limits or (info.min, info.max))).to(dtype)

    monkeypatch.setattr(kernels._OPS, name, other)
    assert not proof()


@pytest.mark.parametrize("lost", ["qconv_prepack", "qconv2d_pointwise"])
def test_a_torch_without_the_kernels_has_none(monkeypatch, lost):
    def missing(*args):
        raise AttributeError(lost)

    monkeypatch.setattr(kernels._OPS, lost, missing)
    assert not kernels.convs_are_exact()


@pytest.mark.parametrize("proven", [True, False], ids=["bytes", "floats"])
@pytest.mark.parametrize("signed", ["int8", "uint8"])
@pytest.mark.parametrize("bias", [0, 1 << 20, 1 << 23], ids=["none", "small", "beyond float32"])
def test_either_kernel_equals_the_referee(monkeypatch, proven, signed, bias):
    """A bias that float32 does not hold together with the sums is added in float64."""
    for name in ("convs_are_exact", "linears_are_exact", "matmuls_are_exact"):
        proof = getattr(kernels, name)
        answer = proven and proof()
        monkeypatch.setattr(step, name, lambda a=answer: a)
    rng = np.random.default_rng(0)
    program = products(rng, signed, bias)
    executor = Executor(program)
    for batch in (1, 3):
        x = rng.integers(*{"int8": (-128, 128), "uint8": (0, 256)}[signed], (batch, 6, 9, 7))
        ints = [np.where(rng.random(x.shape) < 0.5, x.max(), x).astype(signed)]
        for mine, theirs in zip(executor.run(ints), interpret(program, *ints), strict=True):
            np.testing.assert_array_equal(mine, theirs)


def products(rng, dtype, bias):
    """A convolution, a linear layer and a product of matrices."""
    builder = ProgramBuilder("products", None, Arithmetic())
    x = builder.input("x", dtype, (6, 9, 7), 1.0)
    w = builder.const("w", "int8", rng.integers(-128, 128, (8, 3, 3, 2)).astype(np.int8))
    b = builder.const("b", "int32", np.full(8, bias + 1, np.int32))
    shape = {"stride": (2, 1), "padding": (1, 1, 1, 1), "dilation": (1, 1), "groups": 2}
    conv = builder.emit("conv", [x, w, b], name="conv", scale=1.0, **shape)
    flat = builder.emit("reshape", [x], name="flat", scale=1.0, shape=(54, 7))
    v = builder.const("v", "int8", rng.integers(-128, 128, (5, 7)).astype(np.int8))
    c = builder.const("c", "int32", np.full(5, bias + 1, np.int32))
    linear = builder.emit("linear", [flat, v, c], name="linear", scale=1.0)
    turned = builder.emit("transpose", [flat], name="turned", scale=1.0, perm=(0, 2, 1))
    product = builder.emit("matmul", [turned, flat], name="product", scale=1.0)
    return builder.finish([conv, linear, product], [0, 1, 2])
