"""Ops over what the input itself holds, of every size and range: within one step of the fake-quant
model given equal integers (rule: one step of accuracy), for outputs of 8 and of 16 bits."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from qatspec.diag import DiagnosticError
from qatspec.lower import lower
from tests.layers import Op


def real(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def one_above(size: int, distance: float) -> torch.Tensor:
    """Numbers whose exponentials are rounded all the same way, and that are many."""
    x = torch.full((2, size), -distance)
    x[:, 7 % size] = 0.0
    return x


def norm(module: nn.Module, gamma: float | None = None, beta: float = 1.0) -> nn.Module:
    """Slopes and shifts as trained, or all alike."""
    with torch.no_grad():
        if gamma is None:
            nn.init.uniform_(module.weight, -1.5, 1.5)
            nn.init.uniform_(module.bias, -beta, beta)
        else:
            module.weight.fill_(gamma)
            module.bias.fill_(beta)
    return module


SOFTMAX = {
    "one element": real(3, 1),
    "two": real(200, 2),
    "many rows": 4 * real(200, 17),
    "uniform": torch.ones(2, 4000),
    "flat": 0.01 * real(2, 4000),
    "one hot": 30 * real(2, 4000),
    "a thousand": 8 * real(2, 1000),
    "8 below": one_above(4000, 8.0),
    "13 below": one_above(4000, 13.0),
    "26 below": one_above(4000, 26.0),
    "tiny input": 1e-30 * real(2, 40),
    "huge input": 1e30 * real(2, 40),
}
NORMS = {
    "one element": (lambda: norm(nn.LayerNorm(1)), real(3, 5, 1)),
    "two": (lambda: norm(nn.LayerNorm(2, eps=0.0)), real(3, 5, 2)),
    "three": (lambda: norm(nn.LayerNorm(3)), real(3, 5, 3)),
    "many": (lambda: norm(nn.LayerNorm(2000)), 2 * real(3, 2000) + 3),
    "no epsilon": (lambda: norm(nn.LayerNorm(50, eps=0.0)), real(3, 50)),
    "epsilon of 1": (lambda: norm(nn.LayerNorm(300, eps=1.0)), 2 * real(3, 300)),
    "epsilon alone": (lambda: norm(nn.LayerNorm(300, eps=1e3), beta=0.01), 2 * real(3, 300)),
    "epsilon, many": (lambda: norm(nn.LayerNorm(2000, eps=1e3), beta=0.01), 2 * real(3, 2000)),
    "gamma of 0": (lambda: norm(nn.LayerNorm(40), 0.0), real(3, 40)),
    "gamma below 0": (lambda: norm(nn.LayerNorm(40), -3.0), real(3, 40)),
    "huge": (lambda: norm(nn.LayerNorm(40), 1e4, 1e6), real(3, 40)),
    "bias alone": (lambda: norm(nn.LayerNorm(40), 1e-4, 1e4), real(3, 40)),
    "tiny": (lambda: norm(nn.LayerNorm(40), 1e-30, 1e-30), real(3, 40)),
    "tiny input": (lambda: nn.LayerNorm(40), 1e-30 * real(3, 40)),
    "huge input": (lambda: nn.LayerNorm(40), 1e4 * real(3, 40)),
    "one that stands out": (lambda: nn.LayerNorm(300), one_above(300, 5.0)),
    "a group a channel": (lambda: norm(nn.GroupNorm(6, 6)), real(2, 6, 4, 4)),
    "one group": (lambda: norm(nn.GroupNorm(1, 8)), real(1, 8, 40, 40)),
    "of instances": (lambda: nn.InstanceNorm2d(3), real(1, 3, 64, 64)),
}


def deviation(settled, layer: nn.Module, x: torch.Tensor, dtype: str) -> float:
    """In steps of the output."""
    qconfig = {"": {"activation": {"dtype": dtype}}}
    prepared = settled(layer, x, qconfig=qconfig, quantize_output=True)
    program = lower(prepared, (x,))
    (found,) = program.dequantize(program.run(*program.quantize(x.numpy())))
    with torch.no_grad():
        expected = prepared.model(x).double().numpy()
    return float(np.abs(expected - found).max() / program.outputs[0].scale[0])


@pytest.mark.parametrize("dtype", ["qint8", "qint16"])
@pytest.mark.parametrize("name", SOFTMAX)
def test_softmax(name, dtype, settled):
    x = SOFTMAX[name]
    assert deviation(settled, Op(lambda x: torch.softmax(x, -1)), x, dtype) <= 1.01
    assert deviation(settled, Op(lambda x: torch.log_softmax(x, -1)), x, dtype) <= 1.01


@pytest.mark.parametrize("dtype", ["qint8", "qint16"])
@pytest.mark.parametrize("name", NORMS)
def test_norm(name, dtype, settled):
    layer, x = NORMS[name]
    torch.manual_seed(0)
    assert deviation(settled, layer(), x, dtype) <= 1.01


@pytest.mark.parametrize("dtype", ["qint8", "qint16"])
@pytest.mark.parametrize("factor", [1e-4, 1.0, 1e3])
def test_quotients(factor, dtype, settled):
    x = factor * real(3, 40)
    assert deviation(settled, Op(lambda x: x / (x.abs() + factor)), x, dtype) <= 1.01


@pytest.mark.parametrize("dtype", ["qint8", "qint16"])
@pytest.mark.parametrize("factor", [1e-4, 1.0, 1e20])
def test_quotients_of_any_size(factor, dtype, settled):
    """Without a constant, which is refused in a sum from 1e4 on (QS613)."""
    x = factor * torch.cat([real(3, 40), 1 + real(3, 40).abs()], 1)
    assert deviation(settled, Op(lambda x: x[:, :40] / x[:, 40:]), x, dtype) <= 1.01


def test_products_over_5000_of_8_bits(settled):
    assert (
        deviation(settled, Op(lambda x: x @ x.transpose(1, 2)), real(2, 3, 5000), "qint8") <= 1.01
    )


def test_products_of_16_bits_say_what_to_do(settled):
    with pytest.raises(DiagnosticError) as caught:
        deviation(settled, Op(lambda x: x @ x.transpose(1, 2)), real(2, 3, 40), "qint16")
    (found,) = caught.value.diagnostics
    assert (found.code, found.span is None) == ("QS704", False)
    assert "fewer bits" in found.help


@pytest.mark.parametrize("pair", [torch.max, torch.min])
def test_a_pair_that_leaves_whole_is_two_outputs(settled, pair):
    x = real(2, 4, 6)
    prepared = settled(Op(lambda x: pair(x, 1)), x, quantize_output=True)
    assert len(lower(prepared, (x,)).outputs) == 2
    assert prepared.model(x).indices.equal(pair(x, 1).indices)


def test_least_distances_to_a_bank_of_features(settled):
    """As anomaly detectors have them: every pixel is a row, whose batch is merged."""
    bank = real(9, 4)

    def scores(x):
        rows = x.permute(0, 2, 3, 1).reshape(-1, 4)
        distance = (rows**2).sum(1, keepdim=True) - 2 * rows @ bank.t() + (bank**2).sum(1)
        least, index = distance.min(1)
        return least.view(x.shape[0], 1, *x.shape[2:]) + 0 * index.view(x.shape[0], 1, 6, 5)

    assert deviation(settled, Op(scores), real(3, 4, 6, 5), "qint8") <= 1.01


def test_a_pair_of_an_unknown_op_is_told(settled):
    x = real(2, 4, 6)
    prepared = settled(Op(lambda x: torch.sort(x, 1)), x, quantize_output=True)
    with pytest.raises(DiagnosticError) as caught:
        lower(prepared, (x,))
    (found,) = caught.value.diagnostics
    assert (found.code, found.span is None) == ("QS701", False)
    assert found.help
