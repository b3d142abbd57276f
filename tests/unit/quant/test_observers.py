"""Observers: what they find, that histograms are exact, that batches' order hardly matters."""

from __future__ import annotations

import pytest
import torch

from qatspec.diag import DiagnosticError
from qatspec.quant.build import build_fake_quant
from qatspec.quant.observers import (
    FixedScaleObserver,
    MinMaxObserver,
    MovingAverageMinMaxObserver,
    MSEObserver,
    PercentileObserver,
)
from qatspec.types import QSpec


def test_min_max_keeps_the_extremes() -> None:
    observer = MinMaxObserver(QSpec())
    observer(torch.tensor([1.0, -3.0]))
    observer(torch.tensor([2.0]))
    assert (observer.min_val.item(), observer.max_val.item()) == (-3.0, 2.0)
    assert observer.amax().tolist() == [3.0]


def test_moving_average_takes_the_first_batch_whole() -> None:
    observer = MovingAverageMinMaxObserver(QSpec(averaging_constant=0.25))
    observer(torch.tensor([-4.0, 8.0]))
    observer(torch.tensor([0.0, 4.0]))
    assert (observer.min_val.item(), observer.max_val.item()) == (-3.0, 7.0)


def test_channels_are_observed_apart() -> None:
    observer = MovingAverageMinMaxObserver(QSpec(ch_axis=0, averaging_constant=1.0), channels=2)
    observer(torch.tensor([[1.0, -2.0], [5.0, 3.0]]))
    assert observer.amax().tolist() == [2.0, 5.0]


def test_percentile_leaves_outliers_out() -> None:
    observer = PercentileObserver(QSpec(percentile=99.0, bins=2048))
    x = torch.linspace(-1, 1, 100_001)
    x[0] = 1.001  # within the first batch's range: growth would halve the resolution
    observer(x)
    assert observer.amax().item() == pytest.approx(0.99, abs=2e-3)


def test_percentile_hundred_is_the_largest_magnitude() -> None:
    observer = PercentileObserver(QSpec(percentile=100.0))
    observer(torch.tensor([0.25, -0.75]))
    observer(torch.tensor([3.0]))
    assert observer.amax().item() == 3.0


def test_the_histogram_grows_without_losing_a_count() -> None:
    observer = PercentileObserver(QSpec(bins=256))
    generator = torch.Generator().manual_seed(0)
    batches = [torch.randn(1000, generator=generator) * scale for scale in (0.1, 1, 7, 0.01, 30)]
    for batch in batches:
        observer(batch)
    assert observer.histogram.sum().item() == 5000
    assert observer.upper >= torch.cat(batches).abs().max()
    edges = observer.edges()
    everything = torch.cat(batches).abs().sort().values
    for index in (0, 3, 100, 255):
        counted = observer.histogram[: index + 1].sum().item()
        exact = (everything <= edges[index]).sum().item()
        assert abs(counted - exact) <= 2  # numbers on an edge


def test_zero_batches_before_and_between() -> None:
    observer = PercentileObserver(QSpec(percentile=50.0, bins=64))
    observer(torch.zeros(10))
    assert observer.amax().item() == 0.0
    observer(torch.full((30,), 2.0))
    assert observer.histogram.sum().item() == 40
    assert observer.amax().item() == pytest.approx(2.0, rel=0.05)


def test_mse_clips_a_lone_outlier_and_not_a_uniform_range() -> None:
    uniform = MSEObserver(QSpec(dtype="qint4"))
    uniform(torch.linspace(-1, 1, 10_000))
    assert uniform.amax().item() > 0.9
    tailed = MSEObserver(QSpec(dtype="qint4"))
    tailed(torch.cat([torch.linspace(-1, 1, 10_000), torch.tensor([8.0])]))
    assert tailed.amax().item() < 4.0


def test_fixed_scale_needs_no_data() -> None:
    spec = QSpec(observer="fixed_scale", fake_quant="fixed", scale=1 / 128)
    assert FixedScaleObserver(spec).amax().item() == 127.5 / 128
    fake_quant = build_fake_quant(spec)
    assert fake_quant.observed and fake_quant.scale.item() == 1 / 128
    fake_quant.calibrating = True
    fake_quant(torch.full((3,), 50.0))
    assert fake_quant.scale.item() == 1 / 128


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (QSpec(observer="kl", ch_axis=0), "one range a tensor"),
        (QSpec(observer="fixed_scale"), "has no scale"),
        (QSpec(ch_axis=1), "not an output channel axis"),
    ],
)
def test_settings_that_do_not_exist(spec: QSpec, words: str) -> None:
    with pytest.raises(DiagnosticError, match=words) as caught:
        build_fake_quant(spec, at="/stages/qat/qconfig")
    assert caught.value.diagnostics[0].code == "QS601"
    assert caught.value.diagnostics[0].at == "/stages/qat/qconfig"


def test_an_unknown_observer_gets_the_nearest_name() -> None:
    with pytest.raises(DiagnosticError) as caught:
        build_fake_quant(QSpec(observer="percentil"))
    assert "percentile" in (caught.value.diagnostics[0].help or "")


def test_the_same_batches_give_the_same_bytes() -> None:
    results = []
    for _ in range(2):
        observer = PercentileObserver(QSpec())
        generator = torch.Generator().manual_seed(3)
        for _ in range(3):
            observer(torch.randn(5000, generator=generator) * 3)
        results.append([t.clone() for t in observer.state_dict().values()])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))
