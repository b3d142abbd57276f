"""Batch norm while training: running, frozen, frozen later; extreme statistics."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from qatspec.diag import DiagnosticError
from qatspec.prepare import prepare, set_stage
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


def test_a_norm_without_running_statistics_is_refused_and_the_fix_works() -> None:
    def net(**settings):
        return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, **settings)).eval()

    x = torch.randn(2, 3, 8, 8)
    with pytest.raises(DiagnosticError) as error:
        prepare(net(track_running_stats=False), (x,), qconfig="horizon_qat")
    (found,) = error.value.diagnostics
    assert found.code == "QS503" and "`1` has no running statistics" in found.message
    assert "track_running_stats=True" in found.help
    prepare(net(track_running_stats=True), (x,), qconfig="horizon_qat")
