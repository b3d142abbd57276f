"""Quantized modules: the fold, transposed and grouped channels, integers, frozen statistics."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from qatspec.quant.build import build_fake_quant
from qatspec.quant.fold import QuantFold, fold_batch_norm, freeze_batch_norm
from qatspec.quant.geometry import Geometry
from qatspec.quant.modules import QuantWeight, quantize_module
from qatspec.types import QSpec
from tests.forms import all_forms_agree


def out_channels(layer: nn.Module) -> int:
    return Geometry.of(layer).channels(layer.weight.shape)


WEIGHT = QSpec(ch_axis=0, averaging_constant=1.0)

LAYERS = [
    (nn.Conv1d(4, 6, 3, padding=1), (2, 4, 9)),
    (nn.Conv2d(4, 6, 3, stride=2, padding=1, bias=False), (2, 4, 9, 9)),
    (nn.Conv2d(4, 8, 3, padding="same", groups=2, dilation=2), (2, 4, 9, 9)),
    (nn.Conv2d(4, 6, 3, padding=1, padding_mode="reflect"), (2, 4, 9, 9)),
    (nn.Conv3d(2, 3, 3), (1, 2, 5, 5, 5)),
    (nn.ConvTranspose1d(4, 6, 3, stride=2), (2, 4, 7)),
    (nn.ConvTranspose2d(4, 6, 4, stride=2, padding=1, output_padding=1), (2, 4, 5, 5)),
    (nn.ConvTranspose2d(4, 6, 3, groups=2), (2, 4, 5, 5)),
    (nn.Linear(4, 6), (3, 4)),
]
NORMS = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}


def _norm_for(layer: nn.Module, dims: int) -> nn.Module:
    norm = NORMS[max(1, dims - 2)](out_channels(layer))
    with torch.no_grad():
        norm.weight.uniform_(-1.5, 1.5)
        norm.bias.uniform_(-1, 1)
        norm.running_mean.uniform_(-1, 1)
        norm.running_var.uniform_(0.2, 3)
    return norm


@pytest.mark.parametrize(("layer", "shape"), LAYERS)
def test_the_weight_is_quantized_per_output_channel(layer: nn.Module, shape: tuple) -> None:
    module = quantize_module(layer, build_fake_quant(WEIGHT, out_channels(layer)))
    x = torch.randn(shape)
    module(x)  # training: observes the weight
    integers, scale = module.quantized_weight()
    assert scale.shape == (out_channels(layer),)
    assert integers.shape == layer.weight.shape
    restored = integers * module.geometry.per_channel(scale, integers)
    assert (restored - layer.weight).abs().max() <= scale.max() / 2 * 1.01
    expected = module.geometry.apply(x, restored, layer.bias)
    torch.testing.assert_close(module.eval()(x), expected)
    for channel in range(out_channels(layer)):
        one = torch.zeros(out_channels(layer))
        one[channel] = 1
        mask = module.geometry.per_channel(one, layer.weight).expand_as(layer.weight)
        largest = (layer.weight * mask).abs().max()
        torch.testing.assert_close(scale[channel], largest / 127.5)


@pytest.mark.parametrize(("layer", "shape"), LAYERS)
def test_a_fold_equals_conv_and_norm_without_quantization(layer: nn.Module, shape: tuple) -> None:
    norm = _norm_for(layer, len(shape))
    x = torch.randn(shape)
    fold = fold_batch_norm(norm, Geometry.of(layer), build_fake_quant(WEIGHT, out_channels(layer)))
    fold.weight_fake_quant.enable_fake_quant(False)
    torch.testing.assert_close(
        fold.eval()(x, layer.weight, layer.bias), norm.eval()(layer(x)), rtol=1e-4, atol=1e-5
    )
    torch.testing.assert_close(
        fold.train()(x, layer.weight, layer.bias), norm.train()(layer(x)), rtol=1e-3, atol=1e-4
    )


def _conv_fold() -> tuple[nn.Conv2d, nn.BatchNorm2d, QuantFold]:
    conv = nn.Conv2d(3, 4, 3)
    norm = nn.BatchNorm2d(4)
    return conv, norm, fold_batch_norm(norm, Geometry.of(conv), build_fake_quant(WEIGHT, 4))


def test_gamma_zero_gives_beta_and_finite_gradients() -> None:
    conv, norm, fold = _conv_fold()
    with torch.no_grad():
        norm.weight[1] = 0.0
        norm.bias[1] = 0.75
    x = torch.randn(2, 3, 8, 8)
    for mode in (True, False):
        result = fold.train(mode)(x, conv.weight, conv.bias)
        assert torch.equal(result[:, 1], torch.full_like(result[:, 1], 0.75))
    result = fold.train()(x, conv.weight, conv.bias)
    result.square().sum().backward()
    for tensor in (norm.weight, norm.bias, conv.weight):
        assert torch.isfinite(tensor.grad).all()


@pytest.mark.parametrize("gamma", [1e-30, -1e-12, -2.0, 1e8])
@pytest.mark.parametrize("variance", [0.0, 1e-12, 1e8])
def test_extreme_statistics_stay_finite(gamma: float, variance: float) -> None:
    conv, norm, fold = _conv_fold()
    with torch.no_grad():
        norm.weight.fill_(gamma)
        norm.running_var.fill_(variance)
    x = torch.randn(2, 3, 8, 8)
    for mode in (True, False):
        result = fold.train(mode)(x, conv.weight, conv.bias)
        assert torch.isfinite(result).all()
    assert torch.isfinite(fold.weight_fake_quant.scale).all()


def test_frozen_statistics_do_not_move_and_gradients_flow() -> None:
    conv, norm, fold = _conv_fold()
    model = nn.ModuleList([fold, nn.BatchNorm2d(4)]).train()
    freeze_batch_norm(model)
    assert not model[1].training
    x = torch.randn(2, 3, 8, 8)
    before = norm.running_mean.clone()
    trained = fold(x, conv.weight, conv.bias)
    assert torch.equal(before, fold.running_mean)
    torch.testing.assert_close(trained, fold.eval()(x, conv.weight, conv.bias))
    trained.sum().backward()
    assert norm.weight.grad.abs().sum() > 0 and norm.bias.grad.abs().sum() > 0
    freeze_batch_norm(model.train(), False)
    fold(x, conv.weight, conv.bias)
    assert not torch.equal(before, fold.running_mean) and model[1].training


def test_integers_of_a_fold_are_what_eval_uses() -> None:
    conv, _, fold = _conv_fold()
    x = torch.randn(2, 3, 8, 8)
    fold(x, conv.weight, conv.bias)
    integers, scale = fold.eval().quantized_weight(conv.weight, conv.bias)
    _, bias = fold.folded(conv.weight, conv.bias)
    expected = F.conv2d(x, integers * scale.reshape(-1, 1, 1, 1), bias)
    torch.testing.assert_close(fold(x, conv.weight, conv.bias), expected)


def test_parameters_stay_the_same_objects() -> None:
    conv = nn.Conv2d(3, 4, 3)
    module = quantize_module(conv, build_fake_quant(WEIGHT, 4))
    assert isinstance(module, QuantWeight) and isinstance(module, nn.Conv2d)
    assert module.weight is conv.weight and module.bias is conv.bias
    keys = [k for k in module.state_dict() if "fake_quant" not in k]
    assert keys == list(conv.state_dict())


def test_what_has_no_quantized_form_is_refused() -> None:
    with pytest.raises(TypeError):
        quantize_module(nn.ReLU(), build_fake_quant(WEIGHT))
    with pytest.raises(TypeError):
        fold_batch_norm(nn.ReLU(), Geometry("conv2d"), build_fake_quant(WEIGHT))


@pytest.mark.parametrize("padding", [(2, 2), "same"])
def test_a_conv_that_is_dilated_after_init(padding: Any, tmp_path: Path) -> None:
    """As backbones are for segmentation: what forward reads is what the attributes say then."""
    layer = nn.Conv2d(4, 4, 3, padding=1 if padding == (2, 2) else padding)
    layer.dilation, layer.padding = (2, 2), padding
    x = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), layer)
    all_forms_agree(net, x, tmp_path, noise=0.2, steps=2.01, qconfig="horizon_qat")
