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


@pytest.mark.parametrize("update", [in_place, copied, everywhere, assigned])
def test_what_changes_it_is_not_lost_in_a_fake_quantized_copy(update) -> None:
    torch.manual_seed(0)
    net, x = Centered(update), torch.randn(4, 3, 8, 8)
    plain = copy.deepcopy(net).train()
    prepared = prepare(net, (x,), qconfig="horizon_qat")
    prepared.model(x)
    set_stage(prepared, "qat")
    before = net.center.clone()
    for _ in range(3):
        prepared.model(x)
        plain(x)
    moved = (plain.center - before).abs().max()
    assert (prepared.model.center - plain.center).abs().max() < 0.1 * moved
    assert any(isinstance(m, FakeQuantize) for m in prepared.model.modules())


@pytest.mark.parametrize("update", [in_place, copied, everywhere, assigned])
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


class Behind(nn.Module):
    """A network that changes its buffers when it has read them for the last time."""

    def __init__(self, update: Callable[[Behind, Tensor], None]) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 8, 3, padding=1), nn.Linear(8, 4)
        self.register_buffer("center", torch.zeros(1, 8))
        self.register_buffer("calls", torch.tensor(0))
        self.update = update

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        features = self.first(x).mean((2, 3))
        y = self.last(features - self.center)
        if self.training:
            self.update(self, features)
        return {"y": y, "features": features}


@torch.no_grad()
def behind_in_place(net: Behind, features: Tensor) -> None:
    net.calls += 1
    net.center.mul_(0.9).add_(features.mean(0, keepdim=True), alpha=0.1)


@torch.no_grad()
def behind_copied(net: Behind, features: Tensor) -> None:
    net.calls.add_(1)
    net.center.copy_(net.center * 0.9 + features.mean(0, keepdim=True) * 0.1)


def behind_data(net: Behind, features: Tensor) -> None:
    net.calls.data.add_(1)
    net.center.data.mul_(0.9).add_(features.detach().mean(0, keepdim=True) * 0.1)


def behind_assigned(net: Behind, features: Tensor) -> None:
    net.calls = net.calls + 1
    net.center = net.center * 0.9 + features.detach().mean(0, keepdim=True) * 0.1


BEHIND = [behind_in_place, behind_copied, behind_data, behind_assigned]


@pytest.mark.parametrize("update", BEHIND)
def test_what_changes_it_behind_its_readers_trains_and_becomes_integers(update) -> None:
    torch.manual_seed(0)
    net, x = Behind(update), torch.randn(4, 3, 8, 8)
    plain = copy.deepcopy(net).double().train()
    prepared = prepare(net, (x,), qconfig="horizon_qat", march="bayes")
    with torch.no_grad():
        prepared.model(x)
    set_stage(prepared, "qat")
    with_fake_quants = copy.deepcopy(prepared.model)
    for module in prepared.model.modules():
        if isinstance(module, FakeQuantize):
            module.enable_fake_quant(False)
    model = prepared.model.double()
    for step in range(3):
        batch = torch.randn(4, 3, 8, 8)
        found, wanted = model(batch.double()), plain(batch.double())
        torch.testing.assert_close(found, wanted)
        for network, result in ((model, found), (plain, wanted)):
            network.zero_grad()
            sum(y.square().mean() for y in result.values()).backward()
        torch.testing.assert_close(model.first.weight.grad, plain.first.weight.grad)
        assert torch.equal(model.center, plain.center) and int(model.calls) == step + 1
        assert not model.center.requires_grad
        with_fake_quants(batch)["y"].mean().backward()
    assert int(with_fake_quants.calls) == 3
    torch.testing.assert_close(with_fake_quants.center.double(), plain.center, atol=0.02, rtol=0)

    set_stage(prepared, "eval")
    prepared.model.float()
    before = prepared.model.center.clone()
    program = Program.from_bytes(lower(prepared, (x,)).to_bytes())
    with torch.no_grad():
        wanted = prepared.model(x)
    assert torch.equal(prepared.model.center, before)
    assert len(program.run(*program.quantize(x.numpy()))) == len(wanted)


class Codes(Behind):
    """The same, where training returns something else than evaluation."""

    def forward(self, x: Tensor):
        y = super().forward(x)
        return (y["y"], y["features"].mean()) if self.training else y["y"]


def test_it_is_changed_in_the_end_of_training() -> None:
    torch.manual_seed(0)
    net, x = Codes(behind_in_place), torch.randn(4, 3, 8, 8)
    plain = copy.deepcopy(net).train()
    prepared = prepare(net, (x,), qconfig="horizon_qat", march="bayes")
    prepared.model(x)
    set_stage(prepared, "qat")
    for _ in range(2):
        sum(prepared.model(x)).sum().backward()
        plain(x)
    assert int(prepared.model.calls) == 2 and not prepared.model.center.requires_grad
    torch.testing.assert_close(prepared.model.center, plain.center, atol=0.02, rtol=0)


def streaming(net: Centered, mean: Tensor) -> None:
    net.center = torch.cat([net.center, mean])


class Always(Centered):
    """The same, in evaluation as well."""

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x)
        self.center = self.center * 0.9
        return self.last(y)


@pytest.mark.parametrize("kind", [Centered, Always])
def test_what_a_graph_cannot_assign_is_refused_and_kept(kind) -> None:
    """A graph has no such step: the buffer would stay as it is, without a word."""
    net = kind(streaming)
    before = net.center.clone()
    with pytest.raises(DiagnosticError) as caught:
        prepare(net, (torch.randn(4, 3, 8, 8),), qconfig="horizon_qat")
    found = caught.value.diagnostics[0]
    assert found.code == "QS502" and "assign" in found.message
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
