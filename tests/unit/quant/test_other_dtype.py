"""Scales that come from a checkpoint of another dtype."""

from __future__ import annotations

import itertools
import warnings
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from qatspec.diag import DiagnosticError
from qatspec.lower import lower
from qatspec.prepare import prepare, set_stage
from qatspec.quant.build import build_fake_quant
from qatspec.quant.fake_quant import FakeQuantize
from qatspec.quant.state import fit_state
from qatspec.train.checkpoint import load_weights
from qatspec.types import QConfig, QSpec
from qatspec.types.qconfig import QRANGE

DTYPES = tuple(QRANGE)
KINDS = ("fixed", "moving", "lsq", "pact")
PER_TENSOR = ("min_max", "moving_average", "percentile", "mse", "kl", "mix")
PER_CHANNEL = ("min_max", "moving_average", "percentile", "mse")
CASES = [(o, None) for o in PER_TENSOR] + [(o, 0) for o in PER_CHANNEL]
#: these keep what every dtype's scale is found from; mse per channel keeps the clipping point alone
FOUND_AGAIN = [case for case in CASES if case != ("mse", 0)]
X = torch.randn(4, 600, generator=torch.Generator().manual_seed(0)) * torch.tensor(
    [[0.5], [1.0], [2.0], [4.0]]
)


def _observed(qspec: QSpec) -> FakeQuantize:
    built = build_fake_quant(qspec, 4)
    built.observe(X)
    return built


def _loaded(qspec: QSpec, source: FakeQuantize) -> FakeQuantize:
    """A fake-quant of `qspec` with the state of `source`, by the path of every stage."""
    holder, given = nn.Module(), nn.Module()
    holder.x_activation_post_process_0 = build_fake_quant(qspec, 4)
    given.x_activation_post_process_0 = source
    fitted = fit_state(holder, given.state_dict())
    assert (fitted.missing, fitted.unexpected, fitted.unlabelled) == ((), (), ())
    holder.load_state_dict(fitted.state, strict=False)
    return holder.x_activation_post_process_0


def _error(fake_quant: FakeQuantize) -> float:
    return float((fake_quant.rounded(X).detach() - X).square().mean().sqrt())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("observer", "axis"), FOUND_AGAIN)
def test_the_same_observer_finds_the_scale_again(observer: str, axis: int | None, kind: str):
    for theirs, own in itertools.product(DTYPES, DTYPES):
        settings = {"observer": observer, "ch_axis": axis}
        source = _observed(QSpec(dtype=theirs, fake_quant="fixed", **settings))
        spec = QSpec(dtype=own, fake_quant=kind, **settings)
        loaded = _loaded(spec, source)
        torch.testing.assert_close(loaded.scale, _observed(spec).scale, rtol=1e-6, atol=0)
        assert loaded.observed and loaded.quant_range.tolist() == list(QRANGE[own])


@pytest.mark.parametrize(("observer", "axis"), CASES)
def test_another_observer_keeps_the_range(observer: str, axis: int | None):
    for theirs, own in itertools.permutations(DTYPES, 2):
        source = _observed(QSpec(dtype=theirs, observer=observer, ch_axis=axis))
        other = "moving_average" if observer in ("percentile", "mse", "kl", "mix") else "percentile"
        loaded = _loaded(QSpec(dtype=own, observer=other, ch_axis=axis), source)
        half = {dtype: QSpec(dtype=dtype).half_range for dtype in QRANGE}
        expected = source.scale.detach() * (half[theirs] / half[own])
        torch.testing.assert_close(loaded.scale.detach(), expected)


@pytest.mark.parametrize("kind", ["lsq", "pact"])
@pytest.mark.parametrize("axis", [None, 0])
def test_a_learned_scale_keeps_the_range(kind: str, axis: int | None):
    for theirs, own in itertools.permutations(DTYPES, 2):
        trained = _observed(QSpec(dtype=theirs, fake_quant=kind, ch_axis=axis))
        trained.set_scale(trained.scale * 0.8)
        loaded = _loaded(QSpec(dtype=own, fake_quant=kind, ch_axis=axis), trained)
        span = loaded.scale * loaded.qspec.half_range
        torch.testing.assert_close(span, trained.scale * trained.qspec.half_range)


@pytest.mark.parametrize("kind", KINDS)
def test_a_scale_that_the_spec_fixes_is_the_specs(kind: str):
    """Calibrated at another dtype, by any observer, or fixed elsewhere: the spec's scale holds."""
    sources = [
        *(_observed(QSpec(dtype=d, observer=o)) for d in DTYPES for o in PER_TENSOR),
        *(_observed(QSpec(dtype=d, observer="fixed_scale", scale=0.5)) for d in DTYPES),
    ]
    for source, own in itertools.product(sources, DTYPES):
        spec = QSpec(dtype=own, observer="fixed_scale", scale=0.0625, fake_quant=kind)
        assert _loaded(spec, source).scale.tolist() == [0.0625]


@pytest.mark.parametrize("kind", ["lsq", "pact"])
def test_a_fixed_scale_that_was_trained_is_loaded(kind: str):
    spec = QSpec(dtype="qint4", observer="fixed_scale", scale=0.0625, fake_quant=kind)
    trained = build_fake_quant(spec)
    trained.set_scale(torch.tensor([0.05]))
    assert _loaded(spec, trained).scale.item() == pytest.approx(0.05)


def test_equal_dtypes_load_bit_for_bit():
    for dtype, kind in itertools.product(DTYPES, KINDS):
        spec = QSpec(dtype=dtype, fake_quant=kind, observer="mse")
        source = _observed(spec)
        source.set_scale(source.scale * 0.37)
        loaded = _loaded(spec, source)
        for key, value in source.state_dict().items():
            assert torch.equal(loaded.state_dict()[key], value), key


def test_what_was_never_observed_stays_so():
    loaded = _loaded(QSpec(dtype="qint4"), build_fake_quant(QSpec(dtype="qint8")))
    assert not loaded.observed and loaded.scale.item() == 1.0


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.last = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.conv(x).relu())


IMAGE = torch.randn(2, 3, 12, 12, generator=torch.Generator().manual_seed(1))


def _qconfig(dtype: str, kind: str, observer: str) -> QConfig:
    """Weights of 16 bits would overflow the accumulators."""
    weight = "qint4" if dtype == "qint4" else "qint8"
    return QConfig(
        activation=QSpec(dtype=dtype, fake_quant=kind, observer=observer),
        weight=QSpec(
            dtype=weight, fake_quant=kind, observer=observer, ch_axis=0, averaging_constant=1.0
        ),
    )


def _calibrated(qconfig: QConfig):
    prepared = prepare(Net(), (IMAGE,), qconfig=qconfig)
    set_stage(prepared, "calibration")
    prepared.model(IMAGE)
    set_stage(prepared, "eval")
    return prepared


@pytest.mark.parametrize("observer", ["moving_average", "percentile", "mse"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("theirs", "own"), list(itertools.permutations(DTYPES, 2)))
def test_a_model_of_another_dtype_starts_where_its_own_calibration_would(
    theirs: str, own: str, kind: str, observer: str
):
    source = _calibrated(_qconfig(theirs, "fixed", observer))
    expected = _calibrated(_qconfig(own, kind, observer))
    found = prepare(Net(), (IMAGE,), qconfig=_qconfig(own, kind, observer))
    (warning,) = load_weights(found.model, source.model.state_dict(), source=Path("c.pth.tar"))
    assert warning.code == "QS940" and f"from {theirs} to {own}" in warning.message
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        set_stage(found, "qat")
        if kind != "moving":  # moves with the first batch, as it should
            found.model(IMAGE).square().sum().backward()
        set_stage(found, "eval")
        with torch.no_grad():
            torch.testing.assert_close(found.model(IMAGE), expected.model(IMAGE))
        lower(found, (IMAGE[:1],))  # torch warned of a learned scale's gradient


def test_a_checkpoint_without_dtypes_is_refused():
    state = _calibrated(_qconfig("qint8", "fixed", "mse")).model.state_dict()
    old = {k: v for k, v in state.items() if not k.endswith("quant_range")}
    model = prepare(Net(), (IMAGE,), qconfig=_qconfig("qint8", "fixed", "mse")).model
    for given in (old, {**state, "conv_activation_post_process_0.quant_range": torch.zeros(2)}):
        with pytest.raises(DiagnosticError) as caught:
            load_weights(model, given, source=Path("old.pth.tar"))
        assert [d.code for d in caught.value.diagnostics] == ["QS941"]
