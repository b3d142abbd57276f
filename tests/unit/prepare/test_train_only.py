"""What runs while training alone stays what it is: norms with an act, drop path, noise."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qatspec.api import DiagnosticError, export_qat_onnx, lower, prepare, set_stage

X = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(1))


class NormAct(nn.BatchNorm2d):
    """A batch norm that spells out torch's own forward, with a drop and an act behind it."""

    def __init__(self, channels: int, drop: nn.Module | None = None) -> None:
        super().__init__(channels)
        self.drop, self.act = drop or nn.Identity(), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        factor = 0.0 if self.momentum is None else self.momentum
        if self.training and self.track_running_stats and self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
            if self.momentum is None:
                factor = 1.0 / float(self.num_batches_tracked)
        by_batch = self.training or (self.running_mean is None and self.running_var is None)
        x = F.batch_norm(
            x,
            self.running_mean if not self.training or self.track_running_stats else None,
            self.running_var if not self.training or self.track_running_stats else None,
            self.weight,
            self.bias,
            by_batch,
            factor,
            self.eps,
        )
        return self.act(self.drop(x))


def drop_path(x: Tensor, rate: float, training: bool) -> Tensor:
    if rate == 0.0 or not training:
        return x
    keep = 1 - rate
    mask = x.new_empty((x.shape[0],) + (1,) * (x.ndim - 1)).bernoulli_(keep)
    if keep > 0.0:
        mask.div_(keep)
    return x * mask


class DropPath(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return drop_path(x, 0.3, self.training)


@torch.fx.wrap
def wrapped_drop_path(x: Tensor, rate: float, training: bool) -> Tensor:
    return drop_path(x, rate, training)


class WrappedDropPath(nn.Module):
    """A function that is one call to torch.fx (torchvision)."""

    def forward(self, x: Tensor) -> Tensor:
        return wrapped_drop_path(x, 0.3, self.training)


class StochasticDepth(nn.Module):
    """As in torchvision, by a random tensor that is rounded down."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        noise = 0.7 + torch.rand(x.shape[0], 1, 1, 1, dtype=x.dtype, device=x.device)
        return x.div(0.7) * torch.floor(noise)


class DropBlock(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        mask = (torch.rand(x.shape[0], 1, *x.shape[2:], device=x.device) < 0.1).to(x.dtype)
        mask = 1 - F.max_pool2d(mask, 3, 1, 1)
        return x * mask * (mask.numel() / mask.sum().clamp(min=1.0))


class Noise(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            x = x + 0.1 * torch.randn_like(x)
        return x


class Residual(nn.Module):
    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.conv, self.layer = nn.Conv2d(4, 4, 3, padding=1), layer

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layer(self.conv(x))


class ReadsBoth(nn.Module):
    """What is dropped is read undropped as well, before and behind."""

    def forward(self, x: Tensor) -> Tensor:
        return x.relu() + drop_path(x, 0.3, self.training) * x


class Twice(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return drop_path(drop_path(x, 0.3, self.training).relu(), 0.3, self.training)


class Last(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return drop_path(self.conv(x), 0.5, self.training)


LAYERS = {
    "norm with an act": lambda: NormAct(4),
    "norm with a drop": lambda: NormAct(4, nn.Dropout(0.2)),
    "norm with drop path": lambda: NormAct(4, DropPath()),
    "drop path": DropPath,
    "stochastic depth": StochasticDepth,
    "wrapped, twice": lambda: Residual(nn.Sequential(WrappedDropPath(), WrappedDropPath())),
    "drop block": DropBlock,
    "noise": Noise,
    "residual": lambda: Residual(DropPath()),
    "residual with norm": lambda: Residual(nn.Sequential(NormAct(4), StochasticDepth())),
    "reads both": ReadsBoth,
    "twice": Twice,
    "last": Last,
}


@pytest.mark.parametrize("name", LAYERS)
def test_both_modes_compute_what_the_model_does(name, tmp_path):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), LAYERS[name]())
    prepared = prepare(copy.deepcopy(net).eval(), (X,), qconfig="horizon_qat")
    for seed in range(2):  # fake-quants are off; the second time with other statistics
        for training in (True, False):
            net.train(training)
            prepared.model.train(training)
            torch.manual_seed(seed)
            expected = net(X)
            torch.manual_seed(seed)
            torch.testing.assert_close(prepared.model(X), expected, rtol=1e-4, atol=1e-5)
    expected.square().sum().backward()
    set_stage(prepared, "qat")
    prepared.model(X).square().sum().backward()
    set_stage(prepared, "eval")
    program = lower(prepared, (X,))
    (real,) = program.dequantize(program.run(*program.quantize(X.numpy())))
    step = program.outputs[0].scale.max()
    assert abs(real - prepared.model(X).detach().numpy()).max() <= 1.01 * step
    export_qat_onnx(prepared, tmp_path / "qat.onnx", (X,))


class Scales(nn.Module):
    """While training alone it computes with a parameter, which evaluation does not have."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale if self.training else x


class Halves(nn.Module):
    """Of another shape while training."""

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :, ::2] if self.training else x


class Other(nn.Module):
    """Another op in each mode."""

    def forward(self, x: Tensor) -> Tensor:
        return x.relu() if self.training else x.sigmoid()


@pytest.mark.parametrize("layer", [Scales, Halves, Other])
def test_what_no_module_can_be_is_refused_with_its_line(layer):
    net = nn.Sequential(nn.Conv2d(3, 4, 1), layer(), nn.Conv2d(4, 4, 1))
    with pytest.raises(DiagnosticError, match="QS503") as caught:
        prepare(net.eval(), (X,), qconfig="horizon_qat")
    assert "test_train_only.py" in caught.value.diagnostics[0].message
