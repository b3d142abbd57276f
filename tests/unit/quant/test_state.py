"""Checkpoints across stages (rule: constant keys)."""

from __future__ import annotations

import torch
from torch import nn

from qatspec.prepare import prepare, set_stage
from qatspec.quant.state import fake_quant_keys, fit_state
from qatspec.types import QConfig, QSpec

CALIBRATION = QConfig(activation=QSpec(observer="percentile", fake_quant="fixed"))
CALIBRATED = QConfig(activation=QSpec(observer="moving_average", fake_quant="fixed"))


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.last = nn.Conv2d(4, 2, 1)
        self.unused = nn.Linear(2, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.norm(self.conv(x)).relu())


IMAGE = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def test_a_float_checkpoint_loads_into_every_stage() -> None:
    model = Net()
    for qconfig in (CALIBRATION, CALIBRATED):
        prepared = prepare(Net(), (IMAGE,), qconfig=qconfig).model
        fitted = fit_state(prepared, model.state_dict())
        assert (fitted.missing, fitted.unexpected, dict(fitted.reshaped)) == ((), (), {})
        prepared.load_state_dict(fitted.state, strict=False)
        assert torch.equal(prepared.last.weight, model.last.weight)
        state = prepared.state_dict()
        own = [k for k in state if k not in fake_quant_keys(state)]
        assert own == list(model.state_dict())


def test_scales_travel_and_histograms_do_not() -> None:
    calibrated = prepare(Net(), (IMAGE,), qconfig=CALIBRATION)
    calibrated.model(IMAGE)
    qat = prepare(Net(), (IMAGE,), qconfig=CALIBRATED)
    fitted = fit_state(qat.model, calibrated.model.state_dict())
    assert (fitted.missing, fitted.unexpected) == ((), ())
    assert not any("histogram" in key for key in fitted.state)
    qat.model.load_state_dict(fitted.state, strict=False)
    set_stage(qat, "qat")
    name = "conv_activation_post_process_0"
    fixed, observed = getattr(qat.model, name), getattr(calibrated.model, name)
    assert fixed.observed and torch.equal(fixed.scale, observed.scale)
    assert fixed.activation_post_process.max_val.item() == float("-inf")


def test_the_same_observer_keeps_what_it_saw() -> None:
    first = prepare(Net(), (IMAGE,), qconfig=CALIBRATION)
    first.model(IMAGE)
    again = prepare(Net(), (IMAGE,), qconfig=CALIBRATION)
    again.model.load_state_dict(fit_state(again.model, first.model.state_dict()).state)
    for key, value in first.model.state_dict().items():
        assert torch.equal(again.model.state_dict()[key], value)


def test_what_does_not_fit_is_told() -> None:
    state = Net().state_dict()
    del state["conv.bias"]
    state["other.weight"] = torch.zeros(1)
    state["last.weight"] = torch.zeros(3, 4, 1, 1)
    fitted = fit_state(prepare(Net(), (IMAGE,), qconfig=CALIBRATED).model, state)
    assert fitted.missing == ("conv.bias",)
    assert fitted.unexpected == ("other.weight",)
    assert fitted.reshaped == {"last.weight": ((3, 4, 1, 1), (2, 4, 1, 1))}
    assert "last.weight" not in fitted.state


def test_a_quantized_checkpoint_must_have_every_scale() -> None:
    state = prepare(Net(), (IMAGE,), qconfig=CALIBRATION).model.state_dict()
    del state["conv_activation_post_process_0.scale"]
    fitted = fit_state(prepare(Net(), (IMAGE,), qconfig=CALIBRATED).model, state)
    assert fitted.missing == ("conv_activation_post_process_0.scale",)
