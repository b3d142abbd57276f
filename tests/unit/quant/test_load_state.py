"""A calibration goes into a fresh model that was prepared for qat, in another process, by
`load_state` of the API."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from qatspec.api import DiagnosticError, Prepared, load_state, lower, prepare, set_stage
from qatspec.quant.fake_quant import FakeQuantize
from qatspec.train.checkpoint import load_weights
from qatspec.types.qconfig import QRANGE

X = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(1))


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(8)
        self.head = nn.Conv2d(8, 4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(self.bn(self.conv(x)))
        return self.head(y + torch.sigmoid(y))


def net(seed: int = 0) -> Net:
    torch.manual_seed(seed)
    return Net()


def qconfig(dtype: str = "qint8", observer: str = "min_max", kind: str = "fixed") -> dict[str, Any]:
    side = {"dtype": dtype, "observer": observer, "fake_quant": kind}
    return {"": {"activation": side, "weight": {**side, "observer": "min_max"}}}


def prepared(settings: Any, seed: int = 0) -> Prepared:
    return prepare(net(seed), (X[:1],), qconfig=settings, prepare="horizon", march="onnxruntime")


def calibrated(settings: Any) -> Prepared:
    model = prepared(settings)
    set_stage(model, "calibration")
    with torch.no_grad():
        model.model(X)
    return model


def scales(model: Prepared) -> dict[str, torch.Tensor]:
    return {
        path: module.scale.detach().clone()
        for path, module in model.model.named_modules()
        if isinstance(module, FakeQuantize) and not module.disabled and "weight" not in path
    }


SETTINGS = [
    pytest.param(qconfig(), id="the same"),
    pytest.param(qconfig("qint16"), id="16 bits"),
    pytest.param(qconfig("qint4"), id="4 bits"),
    pytest.param(qconfig(observer="percentile"), id="another observer"),
    pytest.param(qconfig("qint16", observer="moving_average", kind="lsq"), id="learned"),
    pytest.param(qconfig("qint4", observer="mse", kind="pact"), id="another fake-quant"),
    pytest.param("horizon_calibrated", id="a preset"),
]


@pytest.mark.parametrize("form", ["file", "mapping", "checkpoint"])
@pytest.mark.parametrize("settings", SETTINGS)
def test_a_calibration_goes_into_a_fresh_model(settings: Any, form: str, tmp_path: Path) -> None:
    source = calibrated(qconfig())
    state = source.model.state_dict()
    path = tmp_path / "calibrated.pth"
    torch.save({"model": state, "epoch": 1} if form == "checkpoint" else state, path)
    fresh, by_stage = prepared(settings, seed=5), prepared(settings, seed=6)
    given = load_state(fresh, state if form == "mapping" else path)
    by_stages = load_weights(by_stage.model, state, source=path)
    assert [w.code for w in given.warnings] == [w.code for w in by_stages]
    for key, value in fresh.model.state_dict().items():
        assert torch.equal(value, by_stage.model.state_dict()[key]), key
    before, after = scales(source), scales(fresh)
    dtypes = {
        path: module.qspec.dtype
        for path, module in fresh.model.named_modules()
        if isinstance(module, FakeQuantize)
    }
    assert before.keys() == after.keys() and before
    for name, scale in after.items():
        low, high = QRANGE[dtypes[name]]
        torch.testing.assert_close(scale * (high - low) / 255, before[name], rtol=1e-5, atol=0)
    changed = set(dtypes.values()) != {"qint8"}
    assert [w.code for w in given.warnings] == ["QS940"] * changed
    set_stage(fresh, "qat")
    fresh.model(X).sum().backward()
    set_stage(fresh, "eval")
    with torch.no_grad():
        fresh.model(X)
    if dtypes[next(iter(after))] == "qint8":
        assert lower(fresh, (X[:1],)).ops


def test_two_processes(tmp_path: Path) -> None:
    """One calibrates and saves; the other prepares for qat, loads, trains a step and lowers."""
    common = f"""
import sys, torch
sys.path[:0] = {sys.path!r}
from tests.unit.quant.test_load_state import *
"""
    first = common + "torch.save(calibrated(qconfig()).model.state_dict(), sys.argv[1])"
    second = (
        common
        + """
model = prepared("horizon_calibrated", seed=9)
given = load_state(model, sys.argv[1])
set_stage(model, "qat")
optimizer = torch.optim.SGD(model.model.parameters(), 1e-3)
model.model(X).square().mean().backward()
optimizer.step()
set_stage(model, "eval")
print(len(lower(model, (X[:1],)).ops), given)
"""
    )
    for code in (first, second):
        done = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path / "state.pth")], text=True,
            capture_output=True, cwd=Path(__file__).parents[3], env={**os.environ}, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("Given(told=(), warnings=())\n") and int(done.stdout.split()[0]) > 2


def test_float_weights_go_into_a_prepared_model() -> None:
    model, weights = prepared(qconfig()), {f"module.{k}": v for k, v in net(7).state_dict().items()}
    (told,) = load_state(model, weights).told
    assert "`module.` was removed" in told
    assert torch.equal(model.model.get_parameter("head.weight"), weights["module.head.weight"])
    assert not any(fq.observed for fq in model.model.modules() if isinstance(fq, FakeQuantize))


def code_of(target: Any, source: Any, **settings: Any) -> str:
    with pytest.raises(DiagnosticError) as caught:
        load_state(target, source, **settings)
    return str(caught.value.diagnostics[0].code)


def test_what_is_refused(tmp_path: Path) -> None:
    state = calibrated(qconfig()).model.state_dict()
    without = {k: v for k, v in state.items() if not k.endswith("quant_range")}
    assert code_of(prepared(qconfig()), without) == "QS941"
    spoilt = {**state, "head.weight": torch.full_like(state["head.weight"], float("nan"))}
    assert code_of(prepared(qconfig()), spoilt) == "QS955"
    seen = [key.removesuffix("range_seen") for key in state if key.endswith("range_seen")]
    scale = next(f"{owner}scale" for owner in seen if state[f"{owner}range_seen"].any())
    assert code_of(prepared(qconfig()), {**state, scale: -state[scale]}) == "QS955"
    assert code_of(prepared(qconfig()), {k: v for k, v in state.items() if k != scale}) == "QS902"
    assert code_of(prepared(qconfig()), {**state, "x": torch.ones(1)}) == "QS902"
    assert code_of(prepared(qconfig()), tmp_path / "absent.pth") == "QS905"
    assert code_of(prepared(qconfig()), {}) == "QS901"
    other = {"other": torch.ones(1)}
    assert code_of(prepared(qconfig()), other, allow_miss=True, ignore_extra=True) == "QS956"


@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_calibration_that_was_fed_a_nan_is_refused_elsewhere_too(prefix):
    """Also where `set_stage`, which tells of it, was never called."""
    model = calibrated(qconfig())
    spoilt = X.clone()
    spoilt[1, 0, 3, 3] = float("nan")
    with torch.no_grad():
        model.model(spoilt)
    state = {f"{prefix}{key}": value for key, value in model.model.state_dict().items()}
    with pytest.raises(DiagnosticError) as caught:
        load_state(prepared(qconfig()), state)
    (found,) = caught.value.diagnostics
    assert found.code == "QS610" and "the given state" in found.message
    # what the help says
    set_stage(model, "calibration")
    with torch.no_grad():
        model.model(X)
    fresh = prepared(qconfig())
    load_state(fresh, model.model.state_dict())
    load_state(model, fresh.model.state_dict())  # into one that was spoilt before
    set_stage(fresh, "qat")
