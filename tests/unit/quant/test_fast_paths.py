"""What is written for speed equals its plain form."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import nn

from qatspec.quant import kept
from qatspec.quant.build import build_fake_quant
from qatspec.quant.fake_quant import bounds_of_x, fake_quantize
from qatspec.quant.fold import fold_batch_norm
from qatspec.quant.folded import quantize_folded
from qatspec.quant.geometry import Geometry
from qatspec.quant.observers import MinMaxObserver, MovingAverageMinMaxObserver, counts_of
from qatspec.types import QSpec

LAYERS = (
    nn.Conv2d(4, 6, 3), nn.Conv2d(6, 6, 3, groups=6), nn.Linear(4, 6), nn.Conv1d(4, 6, 3),
    nn.ConvTranspose2d(4, 6, 3, groups=2),
)  # fmt: skip


def plain(geometry, weight, factor, fake_quant, unfold):
    """Op by op, with gradients by torch."""
    along = geometry.per_channel(factor, weight)
    quantized = geometry.fake_quantize(weight * along, fake_quant)
    return quantized / along if unfold else quantized


@given(
    layer=st.sampled_from(LAYERS), seed=st.integers(0, 2**31), unfold=st.booleans(),
    dtype=st.sampled_from(["qint8", "qint4", "qint16"]), clipped=st.booleans(),
    per_channel=st.booleans(),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_folded_weights(layer, seed, unfold, dtype, clipped, per_channel):
    torch.manual_seed(seed)
    geometry = Geometry.of(layer)
    weight, factor = torch.randn_like(layer.weight), torch.randn(6)
    gradient = torch.randn_like(weight)
    results = []
    for function in (plain, quantize_folded):
        qspec = QSpec(ch_axis=0 if per_channel else None, dtype=dtype, averaging_constant=1.0)
        fake_quant = build_fake_quant(qspec, 6).train()
        if clipped:
            fake_quant.set_scale(torch.full((6 if per_channel else 1,), 0.01))
            fake_quant.enable_observer(False)
        w, f = weight.clone().requires_grad_(), factor.clone().requires_grad_()
        y = function(geometry, w, f, fake_quant, unfold=unfold)
        y.backward(gradient)
        results.append((y.detach(), w.grad, f.grad, fake_quant.state_dict()))
    (y, to_w, to_f, state), (near, near_w, near_f, same_state) = results
    if unfold:
        torch.testing.assert_close(near, y, rtol=1e-6, atol=0.0)
    else:
        assert torch.equal(near, y)  # as the chip has it
    torch.testing.assert_close(near_w, to_w, rtol=1e-6, atol=0.0)
    size = (to_f.abs() + 1.0) * gradient.abs().max()
    assert ((near_f - to_f).abs() <= 1e-4 * size / factor.abs().clamp(max=1.0)).all()
    assert all(torch.equal(state[key], same_state[key]) for key in state)


@given(seed=st.integers(0, 2**31), bins=st.sampled_from([64, 1000, 2048, 40000]))
@settings(max_examples=30, deadline=None)
def test_counts_are_histcs(seed, bins):
    torch.manual_seed(seed)
    unit = torch.rand(3, 7, 11)
    unit[0, 0, :3] = torch.tensor([0.0, 1.0, 0.5])
    unit[1] = torch.randint(0, bins + 1, (7, 11)) / bins  # on the edges
    x, upper = unit * torch.randn_like(unit).sign(), torch.tensor(1.0)
    counts = counts_of(x, upper, bins)
    assert counts.dtype == torch.int64 and counts.shape == (bins,)
    assert torch.equal(counts, torch.histc(unit, bins, 0.0, 1.0).to(torch.int64))


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("kind", [MinMaxObserver, MovingAverageMinMaxObserver])
def test_extremes_by_two_reductions(kind, per_channel, bad):
    observer = kind(QSpec(ch_axis=0 if per_channel else None), 3)
    x = torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(0))
    observer(x)
    low, high = torch.aminmax(x.flatten(1), dim=1) if per_channel else torch.aminmax(x)
    assert torch.equal(observer.min_val, low) and torch.equal(observer.max_val, high)
    x[1, 2, 3] = bad
    observer(x * 2)
    rows = [0, 2] if per_channel else []  # of rows, only the bad one leaves no trace
    moved = (observer.min_val != low).reshape(-1).nonzero().flatten().tolist()
    assert moved == rows


def test_the_scale_of_a_calibration_is_known_where_it_is_read():
    fake_quant = build_fake_quant(QSpec(observer="mse"))
    fake_quant.calibrating = True
    fake_quant.enable_fake_quant(False)
    x = torch.randn(1000, generator=torch.Generator().manual_seed(0))
    at_once = build_fake_quant(QSpec(observer="mse"))
    for batch in x.split(100):
        fake_quant.eval()(batch), at_once.observe(batch)
    assert fake_quant.observed
    assert torch.equal(fake_quant.state_dict()["scale"], at_once.scale)
    fake_quant(x * 2), at_once.observe(x * 2)
    fake_quant.enable_fake_quant()
    assert torch.equal(fake_quant.scale, at_once.scale)


@given(
    scale=st.floats(1e-6, 1e6), dtype=st.sampled_from(["qint4", "qint8", "qint16"]),
    seed=st.integers(0, 2**31),
)  # fmt: skip
@settings(max_examples=100, deadline=None)
def test_bounds_of_x_are_those_of_the_quotient(scale, dtype, seed):
    qspec, step = QSpec(dtype=dtype), torch.tensor([scale])
    low, high = bounds_of_x(step.item(), qspec.qmin, qspec.qmax)
    near = torch.tensor([low, high]).repeat_interleave(9)
    for number in range(9):  # 4 float32 steps to both sides
        for _ in range(abs(number - 4)):
            side = torch.tensor(float("inf") if number > 4 else float("-inf"))
            near[[number, number + 9]] = near[[number, number + 9]].nextafter(side)
    drawn = torch.randn(100, generator=torch.Generator().manual_seed(seed)) * scale * qspec.qmax
    gradients = []
    for bounds in (None, (low, high)):
        x = torch.cat([near, drawn]).requires_grad_()
        fake_quantize(x, step, qspec.qmin, qspec.qmax, bounds).backward(torch.ones_like(x))
        gradients.append(x.grad)
    assert torch.equal(*gradients)
    assert 0 < gradients[0][:18].sum() < 18


def test_bounds_follow_a_scale_that_is_changed_in_place():
    fake_quant = build_fake_quant(QSpec(fake_quant="fixed"))
    fake_quant.set_scale(torch.tensor([0.1]))
    fake_quant.enable_observer(False)
    for scale, passes in ((0.1, [1.0, 0.0]), (1.0, [1.0, 1.0]), (0.001, [0.0, 0.0])):
        with torch.no_grad():
            fake_quant.scale.fill_(scale)
        x = torch.tensor([10.0, 20.0], requires_grad=True)
        fake_quant(x).sum().backward()
        assert x.grad.tolist() == passes


def _fold(per_channel: bool, affine: bool) -> tuple[nn.Conv2d, nn.Module]:
    conv, norm = nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6, affine=affine)
    norm.running_mean.uniform_(-1, 1), norm.running_var.uniform_(0.5, 2)
    qspec = QSpec(ch_axis=0 if per_channel else None, averaging_constant=1.0)
    fold = fold_batch_norm(norm, Geometry.of(conv), build_fake_quant(qspec, 6))
    fold.seed(conv.weight, conv.bias)
    return conv, fold.eval()


def _loads(conv: nn.Conv2d, fold: nn.Module) -> None:
    state = {key: value * 2 if key == "running_var" else value
             for key, value in fold.state_dict().items()}  # fmt: skip
    fold.load_state_dict(state)


def _trains(conv: nn.Conv2d, fold: nn.Module) -> None:
    fold.train()
    y = fold(torch.randn(2, 4, 5, 5), conv.weight, conv.bias)
    assert fold not in kept._KEPT
    y.square().mean().backward()
    torch.optim.SGD(conv.parameters(), 0.1).step()
    fold.eval()


#: Ways in which a weight, or what is folded into it, changes between two evaluations.
CHANGES = {
    "weight": lambda conv, fold: conv.weight.mul_(1.5),
    "bias": lambda conv, fold: conv.bias.add_(1),
    "new weight": lambda conv, fold: setattr(conv, "weight", nn.Parameter(conv.weight * 2)),
    "new memory": lambda conv, fold: setattr(conv.weight, "data", conv.weight * 2),
    "scale": lambda conv, fold: fold.weight_fake_quant.set_scale(fold.weight_fake_quant.scale * 3),
    "mean": lambda conv, fold: fold.running_mean.add_(1),
    "variance": lambda conv, fold: fold.running_var.mul_(2),
    "gamma": lambda conv, fold: fold.weight.mul_(2) if fold.weight is not None else None,
    "off": lambda conv, fold: fold.weight_fake_quant.enable_fake_quant(False),
    "on": lambda conv, fold: fold.weight_fake_quant.enable_fake_quant(True),
    "loads": _loads,
    "trains": torch.enable_grad()(_trains),
    "nothing": lambda conv, fold: None,
}


@given(
    changes=st.lists(st.sampled_from(sorted(CHANGES)), max_size=6), seed=st.integers(0, 2**31),
    per_channel=st.booleans(), affine=st.booleans(),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
@torch.no_grad()
def test_evaluation_keeps_a_folded_weight_until_it_changes(changes, seed, per_channel, affine):
    torch.manual_seed(seed)
    conv, fold = _fold(per_channel, affine)
    x = torch.randn(2, 4, 5, 5)
    for change in ["nothing", *changes]:
        CHANGES[change](conv, fold)
        first = fold(x, conv.weight, conv.bias)
        again, copied = fold(x, conv.weight, conv.bias), copy.deepcopy(fold)
        kept.forget(fold)
        plain_result = fold(x, conv.weight, conv.bias)
        assert torch.equal(first, plain_result)
        assert torch.equal(again, plain_result)
        assert torch.equal(copied(x, conv.weight, conv.bias), plain_result)


def test_what_is_kept_is_used_and_ends_with_its_module(monkeypatch):
    conv, fold = _fold(per_channel=True, affine=True)
    x = torch.randn(2, 4, 5, 5)
    calls = []
    quantized = type(fold)._quantized

    def counted(*operands):
        calls.append(operands)
        return quantized(*operands)

    monkeypatch.setattr(type(fold), "_quantized", counted)
    with torch.no_grad():
        fold(x, conv.weight, conv.bias), fold(x, conv.weight, conv.bias)
    assert len(calls) == 1
    with torch.inference_mode():
        fold(x, conv.weight, conv.bias)
    fold(x, conv.weight, conv.bias)  # with gradients
    assert len(calls) == 3
    count = len(kept._KEPT)
    calls.clear()
    del fold
    assert len(kept._KEPT) == count - 1
