"""kl, mix, and the per-channel percentile and mse of weights."""

from __future__ import annotations

import math

import pytest
import torch

from qatspec.quant.build import build_fake_quant
from qatspec.quant.clipping import (
    ChannelMSEObserver,
    ChannelPercentileObserver,
    KLObserver,
    MixObserver,
)
from qatspec.types import QSpec


def _normal(count: int = 50_000) -> torch.Tensor:
    return torch.randn(count, generator=torch.Generator().manual_seed(0))


def test_kl_clips_a_lone_outlier_and_keeps_a_uniform_range() -> None:
    uniform = KLObserver(QSpec())
    uniform(torch.linspace(-1, 1, 200_001))
    assert uniform.amax().item() > 0.95
    tailed = KLObserver(QSpec())
    tailed(torch.cat([_normal(), torch.tensor([40.0])]))
    assert 2.4 < tailed.amax().item() < 10.0


@pytest.mark.parametrize("zeros", [0.5, 0.75, 0.95])
def test_the_zeros_of_a_relu_do_not_hide_the_rest_from_kl(zeros: float) -> None:
    count = 100_000
    spread = torch.linspace(0, 6, round(count * (1 - zeros)))
    observer = KLObserver(QSpec())
    observer(torch.cat([torch.zeros(count - len(spread)), spread]))
    assert observer.amax().item() > 5


def test_kl_by_hand() -> None:
    """Eight bins, levels as many as qint4's: the row-by-row definition, in plain Python."""
    observer = KLObserver(QSpec(dtype="qint4", bins=32))
    observer(_normal(2000))
    counts = observer.histogram.tolist()
    counts[0] = counts[1]
    levels, bins, best = 8, 32, None
    for kept in sorted({round(levels + i * (bins - levels) / 99) for i in range(100)}):
        p = [float(c) for c in counts[:kept]]
        q = [0.0] * kept
        for level in range(levels):
            members = [j for j in range(kept) if min(j * levels // kept, levels - 1) == level]
            full = [j for j in members if counts[j]]
            for j in full:
                q[j] = sum(counts[k] for k in members) / len(full)
        p[-1] += sum(counts[kept:])
        pt, qt = sum(p), sum(q)
        divergence = sum(
            a / pt * math.log(a / pt / max(b / qt, 1e-10)) for a, b in zip(p, q, strict=True) if a
        )
        if best is None or divergence < best[0]:
            best = (divergence, kept)
    edge = best[1] * observer.upper.item() / bins
    largest = max(-observer.min_val.item(), observer.max_val.item())
    assert observer.amax().item() == pytest.approx(min(edge, largest))


def test_mix_has_the_least_mean_absolute_error() -> None:
    x = torch.cat([_normal(), torch.tensor([60.0])])
    errors = {}
    for name in ("min_max", "percentile", "mse", "kl", "mix"):
        fake_quant = build_fake_quant(QSpec(dtype="qint4", observer=name, bins=4096))
        fake_quant.observe(x)
        errors[name] = (fake_quant.eval()(x) - x).abs().mean().item()
    assert errors["mix"] <= min(errors.values()) * 1.01
    assert errors["min_max"] > 2 * errors["mix"]


@pytest.mark.parametrize("observer", ["kl", "mix", "percentile", "mse"])
@pytest.mark.parametrize("value", [0.0, 3.0])
def test_constant_and_empty_batches_give_a_usable_scale(observer: str, value: float) -> None:
    fake_quant = build_fake_quant(QSpec(observer=observer))
    fake_quant.observe(torch.zeros(0))
    fake_quant.observe(torch.full((10,), value))
    fake_quant.observe(torch.tensor([float("nan"), 1.0]))
    assert fake_quant.scale.item() > 0 and fake_quant.scale.isfinite().all()


def test_channels_have_percentiles_of_their_own() -> None:
    observer = ChannelPercentileObserver(QSpec(ch_axis=0, percentile=90.0), 2)
    observer(torch.stack([torch.arange(1.0, 11.0), torch.arange(10.0, 110.0, 10.0)]))
    assert observer.amax().tolist() == [9.0, 90.0]
    observer(torch.ones(2, 10))  # the present weights alone count
    assert observer.amax().tolist() == [1.0, 1.0]


def test_channels_have_least_squares_of_their_own() -> None:
    spec = QSpec(ch_axis=0, dtype="qint4")
    plain = torch.linspace(-1, 1, 1000)
    tailed = plain.clone()
    tailed[0] = 8.0
    observer = ChannelMSEObserver(spec, 2)
    observer(torch.stack([plain, tailed]))
    clips = observer.amax()
    assert clips[0] > 0.9 and clips[1] < 6.0

    def error(row: torch.Tensor, clip: float) -> float:
        scale = clip / 7.5
        return ((row / scale).round().clamp(-8, 7) * scale - row).square().sum().item()

    steps = [8.0 * k / 100 for k in range(1, 101)]
    assert clips[1].item() == pytest.approx(min(steps, key=lambda c: error(tailed.abs(), c)))


@pytest.mark.parametrize("observer", ["percentile", "mse"])
def test_weights_take_them(observer: str) -> None:
    built = build_fake_quant(QSpec(ch_axis=0, observer=observer), 3)
    built.observe(torch.randn(3, 4, 3, 3, generator=torch.Generator().manual_seed(0)))
    assert built.scale.shape == (3,) and (built.scale > 1e-3).all()
    assert MixObserver(QSpec()).amax().tolist() == [0.0]
