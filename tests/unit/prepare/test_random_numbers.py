"""Random numbers in evaluation are refused; what is random in training alone is not."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qatspec.diag import DiagnosticError
from qatspec.lower import lower
from qatspec.prepare import prepare, set_stage

X = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


class Net(nn.Module):
    def __init__(self, step: Callable[[Net, Tensor], Tensor], part: nn.Module | None = None):
        super().__init__()
        self.conv, self.part, self.step = nn.Conv2d(3, 4, 3), part or nn.Identity(), step

    def forward(self, x: Tensor) -> Tensor:
        return self.step(self, self.conv(x))


class AlwaysOn(nn.Dropout):
    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.p, training=True)


class NeverOff(nn.Dropout):
    def train(self, mode: bool = True) -> nn.Dropout:
        return super().train(True)


class KeepsOn(Net):
    """The usual way to Monte Carlo dropout: the model's own `train` leaves a part on."""

    def train(self, mode: bool = True) -> nn.Module:
        super().train(mode)
        self.part.train(True)
        return self


RANDOM: dict[str, Callable[[], nn.Module]] = {
    "F.dropout": lambda: Net(lambda m, x: F.dropout(x, 0.5)),
    "F.dropout2d": lambda: Net(lambda m, x: F.dropout2d(x, 0.5)),
    "F.alpha_dropout": lambda: Net(lambda m, x: F.alpha_dropout(x, 0.5, training=True)),
    "F.rrelu": lambda: Net(lambda m, x: F.rrelu(x, training=True)),
    "randn_like": lambda: Net(lambda m, x: x + torch.randn_like(x)),
    "rand": lambda: Net(lambda m, x: x + torch.rand(1)),
    "rand of a size": lambda: Net(lambda m, x: x + torch.rand(x.shape)),
    "normal_": lambda: Net(lambda m, x: x + torch.zeros_like(x).normal_()),
    "randperm": lambda: Net(lambda m, x: x[:, torch.randperm(4)]),
    "bernoulli": lambda: Net(lambda m, x: x * torch.bernoulli(torch.full((1,), 0.5))),
    "a forward of its own": lambda: Net(lambda m, x: m.part(x), AlwaysOn()),
    "a mode of its own": lambda: Net(lambda m, x: m.part(x), NeverOff()),
    "nn.Dropout kept on": lambda: KeepsOn(lambda m, x: m.part(x), nn.Dropout()),
}
NOT_RANDOM: dict[str, Callable[[], nn.Module]] = {
    "F.dropout": lambda: Net(lambda m, x: F.dropout(x, 0.5, training=m.training)),
    "F.dropout2d": lambda: Net(lambda m, x: F.dropout2d(x, 0.5, m.training)),
    "nothing dropped": lambda: Net(lambda m, x: F.dropout(x, 0.0)),
    "nn.Dropout": lambda: Net(lambda m, x: m.part(x), nn.Dropout()),
    "nn.Dropout2d": lambda: Net(lambda m, x: m.part(x), nn.Dropout2d()),
    "nn.AlphaDropout": lambda: Net(lambda m, x: m.part(x), nn.AlphaDropout()),
    "nn.RReLU": lambda: Net(lambda m, x: m.part(x), nn.RReLU()),
    "attention": lambda: Net(
        lambda m, x: F.scaled_dot_product_attention(x, x, x)
    ),
    "a transformer layer": lambda: Net(
        lambda m, x: m.part(x.flatten(2)), nn.TransformerEncoderLayer(36, 2, 8, batch_first=True)
    ),
    "a recurrent layer": lambda: Net(
        lambda m, x: m.part(x.flatten(2))[0], nn.LSTM(36, 8, 2, dropout=0.5, batch_first=True)
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", RANDOM)
def test_random_numbers_in_evaluation_are_refused(kind: str) -> None:
    with pytest.raises(DiagnosticError) as caught:
        prepare(RANDOM[kind](), (X,), qconfig="horizon_qat")
    (problem,) = caught.value.diagnostics
    assert problem.code == "QS510"
    assert problem.span and problem.span.file == __file__ and problem.span.line > 0


@pytest.mark.parametrize("mode", ["evaluation", "training", "both"])
@pytest.mark.parametrize("draw", [random.random, np.random.rand], ids=["random", "numpy"])
def test_random_numbers_of_python_are_refused(draw: Callable[[], float], mode: str) -> None:
    def step(m: Net, x: Tensor) -> Tensor:
        is_drawn = mode == "both" or m.training == (mode == "training")
        return x * draw() if is_drawn else x

    with pytest.raises(DiagnosticError) as caught:
        prepare(Net(step), (X,), qconfig="horizon_qat")
    (problem,) = caught.value.diagnostics
    assert problem.code == "QS510" and "random" in problem.message
    assert problem.span and problem.span.file == __file__


@pytest.mark.parametrize("kind", NOT_RANDOM)
def test_what_is_not_random_in_evaluation_is_prepared(kind: str) -> None:
    torch.manual_seed(0)
    model = NOT_RANDOM[kind]().eval()
    with torch.no_grad():
        expected = model(X)
        prepared = prepare(model, (X,), qconfig="horizon_qat")
        torch.testing.assert_close(prepared.model(X), expected, rtol=1e-4, atol=1e-5)


def test_the_fix_lowers() -> None:
    prepared = prepare(NOT_RANDOM["F.dropout"](), (X,), qconfig="horizon_qat")
    prepared.model(X)
    set_stage(prepared, "eval")
    lower(prepared, (X,))


def test_a_batch_norm_that_stays_in_training_is_refused() -> None:
    model = KeepsOn(lambda m, x: m.part(x), nn.BatchNorm2d(4))
    with pytest.raises(DiagnosticError) as caught:
        prepare(model, (X,), qconfig="horizon_qat")
    (problem,) = caught.value.diagnostics
    assert problem.code == "QS503" and "`part`" in problem.message
