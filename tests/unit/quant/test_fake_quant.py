"""Fake-quant: rounding, gradient, switches, what it prints."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from qatspec.quant.build import build_fake_quant
from qatspec.quant.fake_quant import fake_quantize
from qatspec.quant.regrid import MIN_SCALE
from qatspec.types import QRANGE, QSpec


@pytest.mark.parametrize("dtype", QRANGE)
def test_rounds_half_to_even_after_a_true_division(dtype: str) -> None:
    low, high = QRANGE[dtype]
    scale = np.float32(0.1)
    x = np.linspace((low - 2) * 0.1, (high + 2) * 0.1, 20_001).astype(np.float32)
    x = np.concatenate([x, (np.arange(-9, 9) + np.float32(0.5)) * scale]).astype(np.float32)
    expected = np.clip(np.rint(x / scale), low, high).astype(np.float32) * scale
    result = fake_quantize(torch.from_numpy(x), torch.tensor([0.1]), low, high)
    assert np.array_equal(result.numpy(), expected)


@pytest.mark.parametrize("dtype", QRANGE)
def test_gradient_is_one_where_the_rounded_value_is_in_range_and_zero_elsewhere(dtype: str) -> None:
    low, high = QRANGE[dtype]
    edges = [low - 0.5, high + 0.5, float(low), float(high), 0.0]
    points = [torch.tensor(e) for e in edges]
    points += [torch.nextafter(p, torch.tensor(s)) for p in points for s in (-1e9, 1e9)]
    x = torch.stack(points).requires_grad_()
    fake_quantize(x, torch.ones(1), low, high).sum().backward()
    levels = torch.round(x.detach())
    inside = (levels >= low) & (levels <= high)
    assert torch.equal(x.grad, inside.float())


def test_channels_have_scales_of_their_own() -> None:
    x = torch.tensor([[1.0, 2.0], [1.0, 2.0]]).reshape(2, 2, 1, 1)
    result = fake_quantize(x, torch.tensor([1.0, 4.0]), -128, 127)
    assert result.flatten().tolist() == [1.0, 2.0, 0.0, 0.0]  # 2 / 4 is a tie: to even


BATCHES = {
    "empty": torch.zeros(0, 3),
    "zeros": torch.zeros(4, 3),
    "constant": torch.full((4, 3), 3.0),
    "tiny": torch.full((4, 3), 1e-38),
    "huge": torch.full((4, 3), 3e38),
    "not finite": torch.full((4, 3), float("nan")),
    "half infinite": torch.tensor([[0.0, 1.0, float("inf")]] * 4),
}
OBSERVERS = ("min_max", "moving_average", "percentile", "mse", "kl", "mix")


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize(
    ("observer", "fake_quant"),
    [*((o, "moving") for o in OBSERVERS), *(("min_max", f) for f in ("fixed", "lsq", "pact"))],
)
def test_every_batch_gives_a_sound_scale(observer: str, fake_quant: str, batch: str) -> None:
    x = BATCHES[batch]
    module = build_fake_quant(QSpec(observer=observer, fake_quant=fake_quant))
    module.calibrating = True
    for part in (x, torch.linspace(-2, 2, 12).reshape(4, 3), x):
        result = module(part)
        assert torch.isfinite(module.scale).all()
        assert (module.scale >= MIN_SCALE).all()
        assert torch.isfinite(result).all() == torch.isfinite(part).all() or "finite" in batch


@pytest.mark.parametrize("batch", [b for b in BATCHES if b != "empty"])
@pytest.mark.parametrize("observer", OBSERVERS[:4])
def test_every_weight_gives_sound_scales(observer: str, batch: str) -> None:
    """Channel by channel: one of them odd, the others as usual."""
    weight = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    weight[2] = BATCHES[batch][0]
    module = build_fake_quant(QSpec(observer=observer, ch_axis=0), 4)
    module.observe(weight)
    assert torch.isfinite(module.scale).all() and (module.scale >= MIN_SCALE).all()
    assert (module.scale[[0, 1, 3]] > 100 * MIN_SCALE).all()


def test_a_batch_that_is_not_finite_does_not_move_the_scale() -> None:
    fake_quant = build_fake_quant(QSpec(observer="moving_average"))
    fake_quant(torch.tensor([1.0, -2.0]))
    before = fake_quant.scale.clone()
    for bad in (float("nan"), float("inf"), float("-inf")):
        fake_quant(torch.tensor([1.0, bad]))
    assert torch.equal(fake_quant.scale, before)


def test_observes_only_while_training_or_calibrating() -> None:
    fake_quant = build_fake_quant(QSpec(observer="moving_average"))
    state = copy.deepcopy(fake_quant.state_dict())
    fake_quant.eval()(torch.ones(3))
    assert all(torch.equal(value, state[key]) for key, value in fake_quant.state_dict().items())
    fake_quant.calibrating = True
    fake_quant(torch.full((3,), 127.5))
    assert fake_quant.scale.item() == 1.0 and fake_quant.observed
    fake_quant.enable_observer(False)
    fake_quant.train()(torch.full((3,), 999.0))
    assert fake_quant.scale.item() == 1.0


def test_switches_survive_a_checkpoint_and_are_printed() -> None:
    fake_quant = build_fake_quant(QSpec(fake_quant="fixed"))
    fake_quant.enable_fake_quant(False)
    again = build_fake_quant(QSpec(fake_quant="fixed"))
    again.load_state_dict(fake_quant.state_dict())
    assert not again.fake_quant_on and again.observer_on
    assert repr(again).startswith(
        "FixedActivationFakeQuantize(\n  fake_quant_enabled=tensor([0], dtype=torch.uint8), "
        "observer_enabled=tensor([1], dtype=torch.uint8), quant_min=-128, quant_max=127, "
        "dtype=torch.qint8, qscheme=torch.per_tensor_symmetric, ch_axis=-1, scale=tensor([1.]), "
        "zero_point=tensor([0])"
    )
    assert "MovingAverageMinMaxObserver(min_val=inf, max_val=-inf)" in repr(again)


def test_a_disabled_output_stays_off() -> None:
    fake_quant = build_fake_quant(QSpec())
    fake_quant.disabled = True
    fake_quant.enable_fake_quant()
    assert not fake_quant.fake_quant_on
    x = torch.tensor([0.123])
    assert torch.equal(fake_quant.eval()(x), x)


def test_a_module_called_twice_can_go_backward() -> None:
    fake_quant = build_fake_quant(QSpec(averaging_constant=1.0))
    x = torch.tensor([1.0, 2.0], requires_grad=True)
    (fake_quant(x) + fake_quant(x * 3)).sum().backward()
    assert x.grad is not None


def test_integers_match_the_forward() -> None:
    fake_quant = build_fake_quant(QSpec(ch_axis=0, observer="min_max"), channels=4)
    weight = torch.randn(4, 3, 2, 2)
    quantized = fake_quant(weight)
    integers = fake_quant.quantize(weight)
    assert integers.dtype == torch.int8
    assert torch.equal(integers * fake_quant.scale.reshape(4, 1, 1, 1), quantized)


def test_compiles_without_a_graph_break() -> None:
    for spec in (QSpec(observer="percentile"), QSpec(observer="mse"), QSpec()):
        fake_quant = build_fake_quant(spec)
        compiled = torch.compile(fake_quant, backend="aot_eager", fullgraph=True)
        x = torch.randn(16, requires_grad=True)
        eager = copy.deepcopy(fake_quant)
        compiled(x).sum().backward()
        assert torch.equal(compiled(x), eager(x))
        assert torch.equal(fake_quant.scale, eager.scale)
