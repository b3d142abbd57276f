"""Numbers that are not finite never reach a Program: they are refused where they appear."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qatspec.diag import DiagnosticError
from qatspec.export import export_qat_onnx
from qatspec.lower import lower
from qatspec.prepare import prepare, set_stage
from qatspec.quant.fake_quant import FakeQuantize
from qatspec.quant.learned import clamp_scales
from qatspec.train.checkpoint import load_weights
from qatspec.types import QConfig, QSpec

X = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
NAN, INF = math.nan, math.inf


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 1)
    ).eval()


def spoil(model: nn.Module, key: str, value: float) -> None:
    with torch.no_grad():
        model.get_submodule(key.rpartition(".")[0]).state_dict()[
            key.rpartition(".")[2]
        ].view(-1)[0] = value  # fmt: skip


def refused(do: Callable[[], object], code: str, name: str) -> None:
    with pytest.raises(DiagnosticError) as caught:
        do()
    first = caught.value.diagnostics[0]
    assert first.code == code and f"`{name}`" in first.message, str(caught.value)


CASES = [
    ("0.weight", NAN), ("0.weight", INF), ("0.weight", -INF), ("0.bias", NAN), ("3.weight", INF),
    ("3.bias", NAN), ("1.weight", NAN), ("1.bias", INF), ("1.running_mean", NAN),
    ("1.running_var", -1.0), ("1.running_var", NAN), ("1.running_var", INF),
]  # fmt: skip


@pytest.mark.parametrize(("key", "value"), CASES)
def test_in_prepare(key: str, value: float) -> None:
    model = net()
    spoil(model, key, value)
    refused(lambda: prepare(model, (X,), qconfig="horizon_qat"), "QS609", key)


@pytest.mark.parametrize(("key", "value"), CASES)
def test_after_prepare_in_each_stage(key: str, value: float, tmp_path: Path) -> None:
    prepared = prepare(net(), (X,), qconfig="horizon_qat")
    prepared.model(X)
    spoil(prepared.model, key, value)
    refused(lambda: set_stage(prepared, "qat"), "QS609", key)
    refused(lambda: set_stage(prepared, "eval"), "QS609", key)
    refused(lambda: lower(prepared, (X,)), "QS609", key)
    refused(lambda: export_qat_onnx(prepared, tmp_path / "x.onnx", (X,)), "QS609", key)


@pytest.mark.parametrize(("key", "value"), CASES)
@pytest.mark.parametrize("inside", [False, True])
def test_in_a_file(key: str, value: float, inside: bool) -> None:
    model: nn.Module = net()
    model = nn.Sequential(model, nn.ReLU()) if inside else model
    full = f"0.{key}" if inside else key
    other = {k: v.clone() for k, v in model.state_dict().items()}
    other[full].view(-1)[0] = value
    before = {k: v.clone() for k, v in model.state_dict().items()}
    refused(lambda: load_weights(model, other, source=Path("w.pth")), "QS955", "w.pth")
    with pytest.raises(DiagnosticError, match=full):
        load_weights(model, other, source=Path("w.pth"))
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())


def test_a_number_beyond_float32_in_a_file() -> None:
    model = net()
    state = {k: v.double() for k, v in model.state_dict().items()}
    state["0.weight"][0] = 1e39
    refused(lambda: load_weights(model, state, source=Path("w.pth")), "QS955", "w.pth")


@pytest.mark.parametrize("dtype", [torch.int8, torch.complex64])
def test_another_kind_of_number_in_a_file(dtype: torch.dtype) -> None:
    model = net()
    state = {**model.state_dict(), "0.weight": torch.ones(8, 3, 3, 3, dtype=dtype)}
    refused(lambda: load_weights(model, state, source=Path("w.pth")), "QS955", "w.pth")


def test_a_mask_of_infinity_may_be_loaded() -> None:
    model = net()
    model.register_buffer("mask", torch.triu(torch.full((4, 4), -INF), 1))
    load_weights(model, model.state_dict(), source=Path("w.pth"))
    spoilt = {**model.state_dict(), "mask": torch.full((4, 4), -INF)}
    refused(lambda: load_weights(model, spoilt, source=Path("w.pth")), "QS955", "w.pth")


@pytest.mark.parametrize("value", [NAN, INF, 0.0, -1.0, 1e-40])
@pytest.mark.parametrize("fake_quant", ["fixed", "moving", "lsq", "pact"])
@pytest.mark.parametrize("which", ["0", "activation", "1.weight_fake_quant"])
def test_scales(value: float, fake_quant: str, which: str) -> None:
    qconfig = QConfig(
        activation=QSpec(dtype="qint8", observer="min_max", fake_quant=fake_quant),
        weight=QSpec(dtype="qint8", observer="min_max", fake_quant=fake_quant, ch_axis=0),
    )
    prepared = prepare(net(), (X,), qconfig=qconfig)
    prepared.model(X)
    set_stage(prepared, "eval")
    good = {k: v.clone() for k, v in prepared.model.state_dict().items()}
    keys = [k for k in good if k.endswith(".scale")]
    key = next(k for k in keys if ("weight_fake_quant" in k) == (which == "1.weight_fake_quant"))
    path = key.removesuffix(".scale")
    spoil(prepared.model, key, value)
    refused(lambda: lower(prepared, (X,)), "QS705", path)
    refused(lambda: set_stage(prepared, "eval"), "QS705", path)
    bad = {k: v.clone() for k, v in prepared.model.state_dict().items()}
    fresh = prepare(net(), (X,), qconfig=qconfig)
    refused(lambda: load_weights(fresh.model, bad, source=Path("c.pth")), "QS955", "c.pth")
    load_weights(fresh.model, good, source=Path("c.pth"))
    set_stage(fresh, "eval")
    lower(fresh, (X,))


def test_ranges_of_infinity_in_a_file() -> None:
    prepared = prepare(net(), (X,), qconfig="horizon_calibration")
    fresh = {k: v.clone() for k, v in prepared.model.state_dict().items()}
    load_weights(prepared.model, fresh, source=Path("c.pth"))  # nothing seen yet
    key = next(k for k in fresh if k.endswith("max_val"))
    fresh[key].fill_(INF)
    refused(lambda: load_weights(prepared.model, fresh, source=Path("c.pth")), "QS955", "c.pth")


@pytest.mark.parametrize(
    ("scale", "code"),
    [
        (0.0, "QS205"),  # outside the parameter's bounds
        (-1.0, "QS205"),
        (INF, "QS601"),
        (NAN, "QS601"),
        (1e-40, "QS601"),
        (3e38, "QS601"),
    ],
)
def test_a_fixed_scale_of_a_qconfig(scale: float, code: str) -> None:
    qconfig = QConfig(
        activation=QSpec(dtype="qint8", observer="fixed_scale", fake_quant="fixed", scale=scale)
    )
    with pytest.raises(DiagnosticError) as caught:
        prepare(net(), (X,), qconfig=qconfig)
    assert caught.value.diagnostics[0].code == code


def test_a_learned_scale_below_zero_is_settled_by_the_training_loop() -> None:
    qspec = QSpec(dtype="qint8", observer="min_max", fake_quant="lsq", ch_axis=0)
    prepared = prepare(net(), (X,), qconfig=QConfig(weight=qspec))
    prepared.model(X)
    set_stage(prepared, "qat")
    prepared.model(X)
    spoil(prepared.model, "3.weight_fake_quant.scale", -1.0)
    clamp_scales(prepared.model)
    set_stage(prepared, "eval")
    assert prepared.model.get_submodule("3.weight_fake_quant").scale.min() > 0


def test_a_weight_that_overflows_with_its_batch_norm() -> None:
    model = net()
    with torch.no_grad():
        model[0].weight.mul_(1e30)
        model[1].weight.fill_(1e10)
    with pytest.raises(DiagnosticError) as caught:
        prepare(model, (X,), qconfig="horizon_qat")
    (problem, *_) = caught.value.diagnostics
    assert problem.code == "QS609" and "`0`" in problem.message and "folded" in problem.message


def test_a_computed_weight_that_is_not_finite() -> None:
    model = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 4, 3)))
    with torch.no_grad():
        model[0].parametrizations.weight.original1.zero_()  # 0 / 0
    refused(lambda: prepare(model, (X,), qconfig="horizon_qat"), "QS609", "0")


class Inverse(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.last = nn.Conv2d(3, 3, 1, bias=False), nn.Conv2d(3, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(F.relu(1.0 / self.conv(x)))


@pytest.mark.parametrize("stage", ["eval", "qat"])
def test_activations_of_one_batch(stage: str) -> None:
    torch.manual_seed(0)
    prepared = prepare(Inverse(), (X,), qconfig="horizon_calibration")
    with torch.no_grad():
        prepared.model(X)
        prepared.model(torch.zeros_like(X))  # 1 / 0
    refused(lambda: set_stage(prepared, stage), "QS610", "truediv")
    refused(lambda: lower(prepared, (X,)), "QS610", "truediv")
    set_stage(prepared, "calibration")  # what the help says
    with torch.no_grad():
        prepared.model(X)
    set_stage(prepared, stage)
    lower(prepared, (X,))


def test_a_range_that_was_observed_in_between_is_not_spoilt() -> None:
    """But for its marks, the state dict is that of a calibration without the batch."""
    torch.manual_seed(0)
    model = Inverse()
    states = []
    for batches in ([X], [X, torch.zeros_like(X)]):
        prepared = prepare(model, (X,), qconfig="horizon_calibration")
        with torch.no_grad():
            for batch in batches:
                prepared.model(batch)
        states.append(prepared.model.state_dict())
    marks = states[1].keys() - states[0].keys()
    assert marks and all(key.endswith(".not_finite") for key in marks)
    assert states[0].keys() == states[1].keys() - marks
    finite = [k for k in states[0] if "truediv" in k]
    assert finite and all(torch.equal(states[0][k], states[1][k]) for k in finite)


def test_finite_models_are_untouched() -> None:
    prepared = prepare(net(), (X,), qconfig="horizon_calibration")
    prepared.model(X)
    set_stage(prepared, "eval")
    program = lower(prepared, (X,))
    out = program.dequantize(program.run(*program.quantize(X.numpy())))[0]
    assert np.isfinite(out).all()
    assert not any(
        m.saw_not_finite for m in prepared.model.modules() if isinstance(m, FakeQuantize)
    )
