"""Ops in place on parts of tensors that are read later, and TorchScript functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from qatspec.diag import DiagnosticError
from qatspec.prepare import prepare, set_stage
from tests.forms import all_forms_agree

X = torch.randn(2, 3, 10, 12, generator=torch.Generator().manual_seed(0))


class Net(nn.Module):
    """A step between two convolutions."""

    def __init__(self, step: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.a, self.b, self.step = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 4, 1), step

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.step(self.a(x)))


def _once(y: Tensor) -> Tensor:
    y[:, :2].relu_()
    return y


def _in_a_row(y: Tensor) -> Tensor:
    y[:, 2:4].mul_(0.5).add_(1)
    y[..., ::2].clamp_(-1, 1)
    torch.relu_(y[:, 5])
    return y


def _named(y: Tensor) -> Tensor:
    """The part changes again after the tensor was read."""
    part = y[:, :4]
    part += 0.5
    z = y * 0.5
    part *= 2
    return torch.cat([z[:, :4] + part, y[:, 4:]], 1)


def _two(y: Tensor) -> Tensor:
    first, rest = y[:, :2], y[:, 2:]
    first.sigmoid_()
    rest.mul_(2)
    return y


@pytest.mark.parametrize("step", [_once, _in_a_row, _named, _two])
def test_parts(step: Callable[[Tensor], Tensor], tmp_path: Any) -> None:
    torch.manual_seed(0)
    all_forms_agree(Net(step).eval(), X, tmp_path, noise=0.05, steps=2.01)


def _read_later(y: Tensor) -> Tensor:
    """Another part has a channel of the changed one, and is read later."""
    first, other = y[:, :4], y[:, 2:6]
    first.mul_(2)
    return torch.cat([y[:, :4], other], 1)


def _of_results(y: Tensor) -> Tensor:
    """Parts that are results of an op."""
    first, second = y.chunk(2, 1)
    first.mul_(2)
    return y + torch.cat([second, first], 1)


@pytest.mark.parametrize("step", [_read_later, _of_results])
def test_what_is_refused(step: Callable[[Tensor], Tensor]) -> None:
    with pytest.raises(DiagnosticError, match="lies in the same memory"):
        prepare(Net(step).eval(), (X,), qconfig="horizon_qat")


@torch.jit.script
def _scripted(x: Tensor, slope: float = 0.5) -> Tensor:
    return x * torch.sigmoid(x * slope)


_traced = torch.jit.trace(lambda x: x * 0.5 + 1, torch.zeros(1))


@pytest.mark.parametrize("step", [_scripted, lambda y: _scripted(x=y, slope=2.0), _traced])
def test_functions_of_torchscript(step: Callable[[Tensor], Tensor], tmp_path: Any) -> None:
    torch.manual_seed(0)
    all_forms_agree(Net(step).eval(), X, tmp_path, noise=0.05, steps=2.01)
    assert isinstance(_scripted(X), Tensor)  # what tracing changed is as it was


def _recomputed(y: Tensor) -> Tensor:
    if y.requires_grad:
        return checkpoint(F.relu, y, use_reentrant=False)  # type: ignore[no-any-return]
    return F.relu(y)


def test_whether_a_gradient_is_required_decides_nothing(tmp_path: Any) -> None:
    torch.manual_seed(0)
    net = Net(_recomputed).eval()
    all_forms_agree(net, X, tmp_path, noise=0.05, steps=2.01)
    prepared = prepare(net, (X,), qconfig="horizon_qat")
    prepared.model(X)
    set_stage(prepared, "qat")
    prepared.model(X).sum().backward()
    assert prepared.model.a.weight.grad.abs().sum() > 0
