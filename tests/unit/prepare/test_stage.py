"""Stages: what observes, what quantizes, what moves, and what validation leaves alone."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from qatspec.diag import DiagnosticError
from qatspec.graph import Prepared
from qatspec.prepare import prepare, set_stage
from qatspec.quant import kept
from qatspec.quant.fake_quant import FakeQuantize
from tests.unit.prepare.conftest import image


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.last = nn.Conv2d(4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.norm(self.conv(x)).relu())


def _prepared(qconfig: str) -> Prepared:
    torch.manual_seed(0)
    return prepare(Net(), (image(),), qconfig=qconfig)


def _scales(prepared: Prepared) -> dict[str, Tensor]:
    return {
        name: module.scale.clone()
        for name, module in prepared.model.named_modules()
        if isinstance(module, FakeQuantize)
    }


def test_calibration_observes_activations_and_changes_nothing_else() -> None:
    prepared = _prepared("horizon_calibration")
    assert prepared.stage == "calibration" and not prepared.model.training
    plain = copy.deepcopy(prepared.model.state_dict())
    float_net = Net().eval()
    float_net.load_state_dict({k: v for k, v in plain.items() if k in Net().state_dict()})
    torch.testing.assert_close(prepared.model(image()), float_net(image()))
    state = prepared.model.state_dict()
    changed = {key for key, value in state.items() if not torch.equal(value, plain[key])}
    assert changed and all("_activation_post_process_0." in key for key in changed)
    assert {key.rpartition(".")[2] for key in changed} >= {"scale", "histogram", "range_seen"}


def test_qat_with_fixed_scales_moves_weights_alone() -> None:
    prepared = _prepared("horizon_calibration")
    prepared.model(image())
    before = _scales(prepared)
    set_stage(prepared, "qat")
    assert prepared.model.training
    seeded = _scales(prepared)
    for name, scale in seeded.items():
        assert torch.equal(scale, before[name]) == name.endswith("post_process_0")
    with torch.no_grad():
        prepared.model.conv.weight.mul_(2)
    prepared.model(image() * 3)
    for name, scale in _scales(prepared).items():
        assert torch.equal(scale, seeded[name]) == (name != "norm.weight_fake_quant")


def test_qat_without_calibration_moves_activations() -> None:
    prepared = _prepared("horizon_qat")
    set_stage(prepared, "qat")
    prepared.model(image())
    first = _scales(prepared)
    prepared.model(image() * 3)
    for name, scale in _scales(prepared).items():
        if name.endswith("post_process_0"):
            assert (scale > first[name]).all()


def test_validation_changes_no_byte() -> None:
    prepared = _prepared("horizon_qat")
    set_stage(prepared, "qat")
    prepared.model(image())
    set_stage(prepared, "eval")
    before = copy.deepcopy(prepared.model.state_dict())
    prepared.model(image() * 5)
    for key, value in prepared.model.state_dict().items():
        assert torch.equal(value, before[key]), key


def test_eval_of_a_training_model_also_changes_no_byte() -> None:
    prepared = _prepared("horizon_qat")
    set_stage(prepared, "qat")
    prepared.model(image())
    prepared.model.eval()
    before = copy.deepcopy(prepared.model.state_dict())
    prepared.model(image() * 5)
    assert all(torch.equal(v, before[k]) for k, v in prepared.model.state_dict().items())


@pytest.mark.parametrize(
    ("qconfig", "stage"),
    [("horizon_calibrated", "qat"), ("horizon_calibrated", "eval"), ("horizon_qat", "eval")],
)
def test_scales_that_were_never_observed_are_named(qconfig: str, stage: str) -> None:
    prepared = _prepared(qconfig)
    with pytest.raises(DiagnosticError, match="conv_activation_post_process_0") as caught:
        set_stage(prepared, stage)
    assert caught.value.diagnostics[0].code == "QS605"


def test_weights_are_seeded_from_their_extremes() -> None:
    prepared = _prepared("horizon_calibration")
    prepared.model(image())
    set_stage(prepared, "eval")
    model = prepared.model
    expected = model.last.weight.abs().amax((1, 2, 3)) / 127.5
    torch.testing.assert_close(model.last.weight_fake_quant.scale, expected)
    folded, _ = model.norm.folded(model.conv.weight, model.conv.bias)
    expected = folded.abs().amax((1, 2, 3)) / 127.5
    torch.testing.assert_close(model.norm.weight_fake_quant.scale, expected)


def test_copies_for_ema_behave_alike() -> None:
    prepared = _prepared("horizon_qat")
    set_stage(prepared, "qat")
    prepared.model(image())
    copied = copy.deepcopy(prepared.model)
    assert torch.equal(copied.eval()(image()), prepared.model.eval()(image()))
    assert list(copied.state_dict()) == list(prepared.model.state_dict())


def test_the_prepared_model_compiles_without_a_graph_break() -> None:
    prepared = _prepared("horizon_qat")
    set_stage(prepared, "qat")
    compiled = torch.compile(prepared.model, backend="aot_eager", fullgraph=True)
    eager = copy.deepcopy(prepared.model)
    result = compiled(image())
    step = eager.last_activation_post_process_0
    expected = eager(image())
    assert (result - expected).abs().max() <= 1.01 * step.scale
    result.sum().backward()
    assert prepared.model.conv.weight.grad is not None


@pytest.mark.parametrize("stage", ["qat", "eval"])
def test_the_compiled_model_does_not_depend_on_what_is_kept_of_others(stage, monkeypatch) -> None:
    # torch.compile guards on all entries of a table that the graph reads; entries of other models
    # vanish with them at any time.
    prepared = _prepared("horizon_qat")
    set_stage(prepared, "qat")
    prepared.model(image())
    set_stage(prepared, stage)
    monkeypatch.setattr(kept, "_KEPT", None)
    torch.compile(prepared.model, backend="aot_eager", fullgraph=True)(image())
