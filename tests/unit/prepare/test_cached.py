"""What forward keeps for evaluation of its parameters is computed anew in both modes; what it keeps
while tracing is forgotten."""

from __future__ import annotations

import pickle

import pytest
import torch
from torch import Tensor, nn

from qatspec.api import lower, prepare, set_stage

X = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))


class Biased(nn.Module):
    """Attention biases by relative positions, as LeViT and EfficientFormer keep them."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.biases = nn.Parameter(torch.linspace(-1, 1, 12).reshape(4, 3))
        index = (torch.arange(8)[:, None] - torch.arange(8)).abs() % 3
        self.register_buffer("index", index, persistent=False)
        self.cache: dict[str, Tensor] = {}

    def bias(self, device: torch.device) -> Tensor:
        if self.training:
            return self.biases[:, self.index]
        key = str(device)
        if key not in self.cache:
            self.cache[key] = self.biases[:, self.index]
        return self.cache[key]

    def train(self, mode: bool = True) -> Biased:
        super().train(mode)
        if mode and self.cache:
            self.cache = {}
        return self

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return (x * 0.5 + self.bias(x.device)).softmax(-1)


@pytest.mark.parametrize("ran_before", [False, True])
def test_biases_are_computed_from_the_parameter_in_both_modes(ran_before):
    net = Biased().eval()
    if ran_before:
        with torch.no_grad():
            net(X)
    kept = dict(net.cache)
    prepared = prepare(net, (X,), qconfig="horizon_qat", quantize_output=True)
    assert net.cache.keys() == kept.keys()
    torch.testing.assert_close(prepared.model(X), net(X), rtol=1e-4, atol=1e-5)
    set_stage(prepared, "qat")
    prepared.model(X).square().sum().backward()
    biases = prepared.model.get_parameter("biases")
    assert biases.grad.abs().sum() > 0
    before = prepared.model.eval()(X)
    with torch.no_grad():
        biases += torch.linspace(0, 3, 12).reshape(4, 3)
    assert (prepared.model.eval()(X) - before).abs().max() > 0.01
    set_stage(prepared, "eval")
    program = lower(prepared, (X,))
    (real,) = program.dequantize(program.run(*program.quantize(X.numpy())))
    step = program.outputs[0].scale.max()
    assert abs(real - prepared.model(X).detach().numpy()).max() <= 3.01 * step
    pickle.loads(pickle.dumps(prepared.model))


class Chosen(nn.Module):
    """A method that `__init__` chooses."""

    def __init__(self, fast: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.forward = self.forward_fast if fast else self.forward_slow

    def forward_fast(self, x: Tensor) -> Tensor:
        return self.conv(x).relu()

    def forward_slow(self, x: Tensor) -> Tensor:
        return self.conv(x).sigmoid()


class Under(nn.Module):
    def __init__(self, fast: bool) -> None:
        super().__init__()
        self.chosen, self.last = Chosen(fast), nn.Conv2d(4, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(device_type=x.device.type, enabled=False):
            x = self.chosen(x)
        return torch.cat([x[:, :0], self.last(x)], 1)


@pytest.mark.parametrize("fast", [False, True])
@pytest.mark.parametrize("kind", [Chosen, Under])
def test_forward_may_be_a_method_that_init_chooses(kind, fast):
    net = kind(fast).eval()
    prepared = prepare(net, (X,), qconfig="horizon_qat", quantize_output=True)
    torch.testing.assert_close(prepared.model(X), net(X), rtol=1e-4, atol=1e-5)
    set_stage(prepared, "qat")
    set_stage(prepared, "eval")
    lower(prepared, (X,))
