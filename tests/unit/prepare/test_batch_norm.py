"""Batch norm while training: running, frozen, frozen later; extreme statistics."""

from __future__ import annotations

from typing import Any
from unittest import mock

import pytest
import torch
from torch import nn

from qatspec.diag import DiagnosticError
from qatspec.lower import lower
from qatspec.prepare import pipeline, prepare, set_stage
from qatspec.quant.fold import freeze_batch_norm
from tests.unit.prepare.conftest import image


def _prepared(net: nn.Module):
    prepared = prepare(net, (image(),), qconfig="horizon_qat")
    set_stage(prepared, "qat")
    return prepared


def _net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.BatchNorm2d(3), nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU()
    )


def test_frozen_from_an_epoch_on() -> None:
    """Two epochs with moving statistics, then two without: folded and plain norms alike."""
    model = _prepared(_net()).model
    means = []
    for epoch in range(4):
        model.train()
        freeze_batch_norm(model, frozen=epoch >= 2)
        model(image() * (epoch + 1))
        norms = [model.get_submodule(path) for path in ("0", "2")]
        means.append([norm.running_mean.clone() for norm in norms])
    for norm in (0, 1):
        assert not torch.equal(means[0][norm], means[1][norm])
        assert torch.equal(means[1][norm], means[2][norm])
        assert torch.equal(means[2][norm], means[3][norm])
    model.train()
    freeze_batch_norm(model, frozen=False)
    model(image())
    assert not torch.equal(model.get_submodule("2").running_mean, means[3][1])


def test_frozen_training_computes_what_eval_computes() -> None:
    prepared = _prepared(_net())
    model = prepared.model
    model(image())
    freeze_batch_norm(model)
    model(image())  # weight scales follow the folded weights
    trained = model(image())
    set_stage(prepared, "eval")
    step = model.get_submodule("_1_activation_post_process_0").scale
    assert (trained - model(image())).abs().max() <= 1.01 * step


@pytest.mark.parametrize("variance", [0.0, 1e-12, 1e-5, 1e8])
@pytest.mark.parametrize("gamma", [-1.5, 0.0, 1e-6, 2.0])
def test_tiny_variance_and_negative_gamma(variance: float, gamma: float) -> None:
    net = _net()[1:3]
    with torch.no_grad():
        net[1].running_var.fill_(variance)
        net[1].weight.copy_(torch.tensor([gamma, 1.0, -1.0, gamma]))
        net[1].bias.copy_(torch.tensor([0.5, 0.1, 0.2, 0.3]))
    prepared = prepare(net, (image(),), qconfig="horizon_qat")
    set_stage(prepared, "qat")
    result = prepared.model(image())
    result.square().sum().backward()
    assert result.isfinite().all()
    for name, parameter in prepared.model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
    # batch statistics: what the float net gives, but for the rounding of the weights
    expected = net.train()(image())
    assert (result - expected).abs().max() <= 0.05 * expected.abs().max() + 0.05
    for module in prepared.model.modules():
        scale = getattr(module, "scale", None)
        assert scale is None or ((scale > 0).all() and scale.isfinite().all())


def test_negative_gamma_folds_with_its_sign() -> None:
    net = _net()[1:3].eval()
    with torch.no_grad():
        net[1].weight.fill_(-2.0)
    prepared = prepare(net, (image(),), qconfig="horizon_qat")
    prepared.model(image())
    set_stage(prepared, "eval")
    conv, fold = (prepared.model.get_submodule(path) for path in ("1", "2"))
    integers, scale = fold.quantized_weight(conv.weight, conv.bias)
    folded, _ = fold.folded(conv.weight, conv.bias)
    assert (scale > 0).all()
    assert (integers * scale.reshape(-1, 1, 1, 1) - folded).abs().max() <= scale.max() * 0.51
    assert (prepared.model(image()) - net(image())).abs().max() < 0.05 * net(image()).abs().max()


NORMS = {
    "2-d": (nn.BatchNorm2d, lambda x: x),
    "1-d of features": (nn.BatchNorm1d, lambda x: x.mean((2, 3))),
    "1-d of rows": (nn.BatchNorm1d, lambda x: x.flatten(2)),
    "3-d": (nn.BatchNorm3d, lambda x: x.unsqueeze(2)),
}


class ByBatch(nn.Module):
    """A norm that keeps no running statistics behind a convolution."""

    def __init__(self, kind: str, **settings: Any) -> None:
        super().__init__()
        norm, self.layout = NORMS[kind]
        self.conv, self.norm = nn.Conv2d(3, 4, 3), norm(4, track_running_stats=False, **settings)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.norm(self.layout(self.conv(x))))


@pytest.mark.parametrize("settings", [{}, {"affine": False}, {"eps": 0.1}], ids=str)
@pytest.mark.parametrize("kind", NORMS)
def test_a_norm_of_the_batch_gets_the_statistics_of_the_examples(kind: str, settings: Any) -> None:
    net, x = ByBatch(kind, **settings), torch.randn(5, 3, 8, 8) * 2 + 1
    before = [name for name, _ in net.named_buffers()]
    prepared = prepare(net, (x,), qconfig="horizon_qat", quantize_output=True)
    (warning,) = (w for w in prepared.warnings if w.code == "QS615")
    assert "`norm`" in warning.message
    assert [name for name, _ in net.named_buffers()] == before and net.training
    with torch.no_grad():  # of the examples the result is the float net's, of one of them too
        torch.testing.assert_close(prepared.model(x), net.eval()(x), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(prepared.model(x[:1]), net(x)[:1], rtol=1e-4, atol=1e-5)
    set_stage(prepared, "qat")
    mean = prepared.model.norm.running_mean.clone()
    prepared.model.train()
    prepared.model(x * 3)
    assert not torch.equal(prepared.model.norm.running_mean, mean)
    set_stage(prepared, "eval")
    program = lower(prepared, (x,))
    (real,) = program.dequantize(program.run(*program.quantize(x.numpy())))
    with torch.no_grad():
        steps = abs(real - prepared.model(x).numpy()).max() / program.outputs[0].scale.max()
    assert steps <= 2.02


def test_a_norm_that_runs_on_several_tensors_averages_over_them() -> None:
    class Twice(ByBatch):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x) + super().forward(x * 3)

    net, x = Twice("2-d"), torch.randn(5, 3, 8, 8)
    prepared = prepare(net, (x,), qconfig="horizon_qat")
    with torch.no_grad():
        mean = (net.conv(x) + net.conv(x * 3)).mean((0, 2, 3)) / 2
    torch.testing.assert_close(prepared.model.norm.running_mean, mean)


def test_parts_that_are_not_prepared_keep_their_norms() -> None:
    net = nn.Sequential(ByBatch("2-d"), nn.BatchNorm2d(4, track_running_stats=False))
    prepared = prepare(net, (torch.randn(2, 3, 8, 8),), qconfig="horizon_qat", modules={"0": {}})
    assert prepared.model.get_submodule("1").running_mean is None
    (warning,) = (w for w in prepared.warnings if w.code == "QS615")
    assert "`0.norm`;" in warning.message


def test_made_up_examples_give_no_statistics() -> None:
    """A spec's example inputs say nothing of its data."""
    net, x = ByBatch("2-d"), torch.randn(2, 3, 8, 8)
    with (
        mock.patch.object(pipeline, "keep_statistics", return_value=[]),
        pytest.raises(DiagnosticError) as error,
    ):
        prepare(net, (x,), qconfig="horizon_qat")
    (found,) = error.value.diagnostics
    assert found.code == "QS503" and "`norm` has no running statistics" in found.message
    assert "track_running_stats=True" in found.help


def test_statistics_of_a_batch_by_a_function_are_refused_with_what_to_pass() -> None:
    class Function(ByBatch):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return nn.functional.batch_norm(self.conv(x), None, None, training=True)

    x = torch.randn(2, 3, 8, 8)
    prepared = prepare(Function("2-d"), (x,), qconfig="horizon_qat")
    prepared.model(x)
    set_stage(prepared, "eval")
    with pytest.raises(DiagnosticError) as error:
        lower(prepared, (x,))
    assert "pass `running_mean`, `running_var`" in error.value.diagnostics[0].help
