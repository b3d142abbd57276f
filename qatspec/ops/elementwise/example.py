"""Examples of the ops, and the same functions in float64."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import fx, nn

from qatspec.ops.examples import SLOPE, Reals, function, module, per_channel, with_parameters
from qatspec.quant.elementwise import ElementwiseFunction
from qatspec.types import Example


def _sigmoid(x: Reals) -> Reals:
    return np.asarray(1 / (1 + np.exp(-x)))


def _gelu(x: Reals) -> Reals:
    return np.asarray(x / 2 * (1 + np.vectorize(math.erf)(x / math.sqrt(2))))


def _hardsigmoid(x: Reals) -> Reals:
    return np.asarray(np.clip(x / 6 + 0.5, 0, 1))


def _table() -> nn.Module:
    body = fx.Graph()
    body.output(body.call_function(torch.sin, (body.placeholder("x"),)))
    return ElementwiseFunction(body, nn.Module(), ("torch.sin",))


def examples() -> tuple[Example, ...]:
    return (
        module("sigmoid", nn.Sigmoid, _sigmoid),
        module("tanh", nn.Tanh, np.tanh),
        module("silu", nn.SiLU, lambda x: x * _sigmoid(x)),
        module("gelu", nn.GELU, _gelu),
        module("elu", lambda: nn.ELU(0.7), lambda x: np.where(x > 0, x, 0.7 * np.expm1(x))),
        module("hardswish", nn.Hardswish, lambda x: x * _hardsigmoid(x)),
        module("hardsigmoid", nn.Hardsigmoid, _hardsigmoid),
        module("leaky_relu", lambda: nn.LeakyReLU(0.2), lambda x: np.where(x > 0, x, 0.2 * x)),
        module("softplus", lambda: nn.Softplus(2), lambda x: np.log1p(np.exp(2 * x)) / 2),
        function("exp", torch.exp, np.exp),
        function("sqrt", lambda x: torch.sqrt(x.relu())),
        function("rsqrt", lambda x: torch.rsqrt(x.abs() + 1)),
        function("abs", torch.abs, np.abs),
        function("sign", torch.sign, np.sign),
        function("pow", lambda x: x**2, np.square),
        module(
            "prelu",
            lambda: with_parameters(nn.PReLU(4), weight=SLOPE),
            lambda x: np.where(x > 0, x, per_channel(SLOPE) * x),
        ),
        module("elementwise_function", _table, np.sin),
    )
