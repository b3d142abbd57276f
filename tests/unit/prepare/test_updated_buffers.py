"""Buffers that forward changes while training: centers, counters, averages."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qatspec.diag import DiagnosticError
from qatspec.lower import lower
from qatspec.prepare import prepare, set_stage
from qatspec.program import Program
from qatspec.quant.fake_quant import FakeQuantize
from tests.nets import settle


class Centered(nn.Module):
    """A network that takes the running mean of its channels off."""

    def __init__(self, update: Callable[[Centered, Tensor], None]) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 4, 1)
        self.register_buffer("center", torch.randn(8))
        self.update = update

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x)
        if self.training:
            with torch.no_grad():
                self.update(self, y.mean((0, 2, 3)))
        return self.last(y - self.center.view(1, -1, 1, 1))


def in_place(net: Centered, mean: Tensor) -> None:
    net.center.mul_(0.9).add_(mean * 0.1)


def copied(net: Centered, mean: Tensor) -> None:
    net.center.copy_(net.center * 0.9 + mean * 0.1)


def everywhere(net: Centered, mean: Tensor) -> None:
    net.center[:] = net.center * 0.9 + mean * 0.1


def assigned(net: Centered, mean: Tensor) -> None:
    net.center = net.center * 0.9 + mean * 0.1


@pytest.mark.parametrize("update", [in_place, copied, everywhere])
def test_what_changes_it_in_place_trains_and_becomes_integers(update) -> None:
    torch.manual_seed(0)
    net, x = Centered(update), torch.randn(4, 3, 8, 8)
    plain = copy.deepcopy(net).double().train()
    prepared = prepare(net, (x,), qconfig="horizon_qat")
    with torch.no_grad():
        prepared.model(x)
    set_stage(prepared, "qat")
    fake_quants = [m for m in prepared.model.modules() if isinstance(m, FakeQuantize)]
    for fake_quant in fake_quants:
        fake_quant.enable_fake_quant(False)
    model = prepared.model.double()
    for _ in range(2):
        batch = torch.randn(4, 3, 8, 8).double()
        torch.testing.assert_close(model(batch), plain(batch))
        assert torch.equal(model.center, plain.center)

    prepared = settle(Centered(update), x, qconfig="horizon_qat", march="bayes")
    program = Program.from_bytes(lower(prepared, (x,)).to_bytes())
    with torch.no_grad():
        wanted = prepared.model(x)
    (sums,) = program.run(*program.quantize(x.numpy()))
    (port,) = program.outputs
    real = torch.from_numpy(sums) * torch.tensor(port.scale).reshape(1, -1, 1, 1)
    assert (real - wanted).abs().max() < 0.02 * wanted.abs().max()  # a rounding on the way


def test_what_assigns_it_is_refused_and_kept() -> None:
    """A graph has no such step: the buffer would stay as it is, without a word."""
    net = Centered(assigned)
    before = net.center.clone()
    with pytest.raises(DiagnosticError) as caught:
        prepare(net, (torch.randn(4, 3, 8, 8),), qconfig="horizon_qat")
    (found,) = caught.value.diagnostics
    assert found.code == "QS502" and "`center`" in found.message
    assert "self.center.copy_(...)" in found.help
    assert found.span is not None and found.span.file == __file__
    assert torch.equal(net.center, before)


class Counting(nn.BatchNorm2d):
    """As older versions of torch have it."""

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.num_batches_tracked = self.num_batches_tracked + 1
        mean, variance, training = self.running_mean, self.running_var, self.training
        return F.batch_norm(x, mean, variance, self.weight, self.bias, training, self.momentum)


def test_how_many_batches_a_norm_has_seen_is_not_needed() -> None:
    net = nn.Sequential(nn.Conv2d(3, 8, 3), Counting(8), nn.ReLU(), nn.Conv2d(8, 4, 1))
    prepared = prepare(net, (torch.randn(2, 3, 8, 8),), qconfig="horizon_qat")
    state = prepared.model.state_dict()
    assert all(isinstance(value, Tensor) for value in state.values())
    assert "1.num_batches_tracked" in state
