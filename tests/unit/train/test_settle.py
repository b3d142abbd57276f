"""Fresh batch norms get the statistics of data before an untrained network is judged."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from qatspec.train.checkpoint import load
from qatspec.train.settle import averaging, settle


def conv(width: int = 8, norm: type[nn.Module] = nn.BatchNorm2d, **options: object) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(width, width, 3, padding=1, bias=False), norm(width, **options), nn.ReLU()
    )


def deep(count: int = 24, **options: object) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(*(conv(**options) for _ in range(count)))


def batches(count: int = 3, seed: int = 1) -> list[tuple[torch.Tensor, ...]]:
    generator = torch.Generator().manual_seed(seed)
    return [(3 * torch.randn(6, 8, 8, 8, generator=generator) + 2,) for _ in range(count)]


def norms(model: nn.Module) -> list[nn.Module]:
    return [m for m in model.modules() if hasattr(m, "running_var") and m.running_var is not None]


@pytest.mark.parametrize("momentum", [0.1, 0.01, None])
def test_an_untrained_network_computes_numbers_of_its_batches(momentum: float | None) -> None:
    model, fresh = deep(momentum=momentum), deep(momentum=momentum)
    assert settle(model, batches()) == 24
    (last,) = batches(1, seed=2)[0]
    with torch.no_grad():
        judged, trained = model.eval()(last), model.train()(last)
        vanished = fresh.eval()(last)
    assert vanished.std() < 0.01 * trained.std()  # what the settling is for
    assert judged.std() == pytest.approx(trained.std().item(), rel=0.3)
    assert all(norm.momentum == momentum for norm in norms(model))
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_the_statistics_are_the_average_over_the_batches() -> None:
    model = nn.BatchNorm2d(8)
    given = batches(5)
    settle(model, given)
    means = torch.stack([b.mean((0, 2, 3)) for (b,) in given]).mean(0)
    variances = torch.stack([b.transpose(0, 1).reshape(8, -1).var(1) for (b,) in given]).mean(0)
    torch.testing.assert_close(model.running_mean, means)
    torch.testing.assert_close(model.running_var, variances)


def test_given_statistics_stand() -> None:
    model = deep(4)
    settle(model, batches())
    before = {k: v.clone() for k, v in model.state_dict().items()}
    model[3] = conv()
    assert settle(model, batches(seed=3)) == 1
    for key, value in model.state_dict().items():
        if not key.startswith("3."):
            assert torch.equal(value, before[key]), key
    assert (model[3][1].running_var != 1).all()


@pytest.mark.parametrize("norm", [nn.BatchNorm2d, nn.InstanceNorm2d, "subclass", "no statistics"])
def test_kinds_of_norms(norm: type[nn.Module] | str) -> None:
    class Own(nn.BatchNorm2d):
        """Passes its momentum on, as layers of other libraries do."""

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return nn.functional.batch_norm(
                x, self.running_mean, self.running_var, self.weight, self.bias, self.training,
                float(self.momentum), self.eps,
            )  # fmt: skip

    if norm == "no statistics":
        model = deep(2, track_running_stats=False)
        assert settle(model, batches()) == 0
        return
    options = {"track_running_stats": True} if norm is nn.InstanceNorm2d else {}
    model = deep(2, norm=Own if norm == "subclass" else norm, **options)
    assert settle(model, batches()) == 2
    assert all((m.running_var != 1).all() for m in norms(model))


def test_parameters_and_other_buffers_stay() -> None:
    class Counts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("calls", torch.zeros(()))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if self.training:
                self.calls += 1
            return x

    model = nn.Sequential(conv(), Counts())
    before = [p.clone() for p in model.parameters()]
    settle(model, batches())
    assert model[1].calls == 0
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


def test_an_error_leaves_the_model_as_it_was() -> None:
    model = deep(2)
    with pytest.raises(RuntimeError), averaging(model):
        model(torch.zeros(1, 3, 8, 8))
    assert not any(module._forward_pre_hooks for module in model.modules())
    assert norms(model)[0].momentum == 0.1


def _statistics(project: object) -> torch.Tensor:
    path = project.workdir.with_name("work-smoke") / "float/float-checkpoint-last.pth.tar"
    return load(path).weights["stem.1.running_var"]


def test_a_smoke_run_begins_with_statistics_of_the_data(project, monkeypatch) -> None:
    messages = []
    project.run(smoke=True, step="float", on_event=lambda e: messages.append(e.data))
    assert any("2 fresh batch norms" in str(data.get("message")) for data in messages), messages
    settled = _statistics(project)
    monkeypatch.setattr("qatspec.stages.float.settle", lambda model, batches: 0)
    (project.workdir.with_name("work-smoke") / "float/step.json").unlink()
    project.run("seed=4", smoke=True, step="float")
    assert (_statistics(project) > 5 * settled).all()  # mostly the initial 1


def test_a_training_begins_as_before(project) -> None:
    messages = []
    project.run(step="float", on_event=lambda e: messages.append(e.data))
    assert not any("fresh batch norms" in str(data.get("message")) for data in messages)
