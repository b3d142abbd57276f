"""Lowering gives what the model computes in stage eval, whatever stage it was left in."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from qatspec.diag import DiagnosticError
from qatspec.export import export_qat_onnx
from qatspec.graph import Prepared
from qatspec.lower import lower
from qatspec.prepare import prepare, set_stage
from qatspec.program import Program
from qatspec.quant.fake_quant import FakeQuantize

X = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
QCONFIGS = ("horizon_calibration", "horizon_qat")


def _calibrated(qconfig: str = "horizon_calibration") -> Prepared:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 1),
        nn.utils.parametrizations.spectral_norm(nn.Conv2d(4, 4, 1)),
    )  # fmt: skip
    with torch.no_grad():
        for _ in range(20):
            model(X)
    prepared = prepare(model.eval(), (X,), qconfig=qconfig)
    with torch.no_grad():
        prepared.model(X)
    return prepared


def _trained(prepared: Prepared) -> None:
    set_stage(prepared, "qat")
    optimizer = torch.optim.SGD(prepared.model.parameters(), lr=1e-3)
    for _ in range(2):
        optimizer.zero_grad()
        prepared.model(X).square().mean().backward()
        optimizer.step()


def _in_train_mode(prepared: Prepared) -> None:
    set_stage(prepared, "eval")
    prepared.model.train()


def _again(prepared: Prepared) -> None:
    _trained(prepared)
    set_stage(prepared, "calibration")


def _float_state(prepared: Prepared) -> None:
    """Weights alone are loaded, as by a float checkpoint; the observers had their images."""
    state = {k: v * 1.1 for k, v in prepared.model.state_dict().items() if k.endswith("t.weight")}
    prepared.model.load_state_dict(state, strict=False)


def _lowered_before(prepared: Prepared) -> None:
    lower(prepared, (X,))


LEFT: dict[str, Callable[[Prepared], None]] = {
    "calibration": lambda p: None,
    "eval": lambda p: set_stage(p, "eval"),
    "qat, no step": lambda p: set_stage(p, "qat"),
    "qat, trained": _trained,
    "train mode": _in_train_mode,
    "calibration after qat": _again,
    "float weights": _float_state,
    "lowered before": _lowered_before,
}


def _outputs(program: Program) -> np.ndarray:
    return program.dequantize(program.run(*program.quantize(X.numpy())))[0]


@pytest.mark.parametrize("left", LEFT)
@pytest.mark.parametrize("qconfig", QCONFIGS)
def test_lower_in_each_stage(qconfig: str, left: str, tmp_path: Path) -> None:
    prepared = _calibrated(qconfig)
    LEFT[left](prepared)
    stage, training = prepared.stage, [m.training for m in prepared.model.modules()]
    judged = Prepared(**{f: getattr(prepared, f) for f in prepared.__slots__})
    judged.model = copy.deepcopy(prepared.model)
    program = lower(prepared, (X,))
    export_qat_onnx(prepared, tmp_path / "a.onnx", (X,))
    assert prepared.stage == stage
    assert [m.training for m in prepared.model.modules()] == training
    set_stage(judged, "eval")
    export_qat_onnx(judged, tmp_path / "b.onnx", (X,))
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()
    with torch.no_grad():
        wanted = judged.model(X).numpy()
    got, step = _outputs(program), float(program.outputs[0].scale[0])
    assert np.array_equal(got, _outputs(lower(judged, (X,))))
    assert np.abs(got - wanted).max() <= 1.01 * step
    assert (np.abs(got - wanted) > step / 2).mean() < 0.02
    assert len(np.unique(got)) > 20  # it reads its input
    session = onnxruntime.InferenceSession(str(tmp_path / "a.onnx"))
    (float_of_onnx,) = session.run(None, {session.get_inputs()[0].name: X.numpy()})
    assert np.abs(float_of_onnx - wanted).max() <= 1.01 * step


def test_lowering_changes_nothing_that_a_later_stage_uses() -> None:
    """Training after lowering is the training without it."""
    states = []
    for lowered in (False, True):
        prepared = _calibrated()
        if lowered:
            lower(prepared, (X,))
        _trained(prepared)
        states.append(prepared.model.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(*map(dict.values, states), strict=True))


def _some_off(prepared: Prepared) -> None:
    set_stage(prepared, "eval")
    next(m for m in prepared.model.modules() if isinstance(m, FakeQuantize)).enable_fake_quant(
        False
    )


def _state_of_calibration(prepared: Prepared) -> None:
    state = copy.deepcopy(prepared.model.state_dict())
    set_stage(prepared, "eval")
    prepared.model.load_state_dict(state)


@pytest.mark.parametrize("switch_off", [_some_off, _state_of_calibration])
def test_fake_quants_that_are_off_are_named(
    switch_off: Callable[[Prepared], None], tmp_path: Path
) -> None:
    prepared = _calibrated()
    switch_off(prepared)
    for use in (
        lambda: lower(prepared, (X,)),
        lambda: export_qat_onnx(prepared, tmp_path / "a.onnx", (X,)),
    ):
        with pytest.raises(DiagnosticError) as caught:
            use()
        (problem,) = caught.value.diagnostics
        assert problem.code == "QS611" and "switched off" in problem.message
    set_stage(prepared, "eval")
    lower(prepared, (X,))


def test_observers_that_never_ran_are_named() -> None:
    torch.manual_seed(0)
    prepared = prepare(nn.Sequential(nn.Conv2d(3, 4, 3)), (X,), qconfig="horizon_calibration")
    with pytest.raises(DiagnosticError) as caught:
        lower(prepared, (X,))
    assert {d.code for d in caught.value.diagnostics} == {"QS705"}
