"""Every spec with --smoke, from training to the binary, without its data.

The networks are made narrow and shallow here, and all but two of the tutorial's are compiled at O1,
which searches for no schedule, so that each takes seconds; by hand, `qatspec run SPEC --smoke` goes
through the whole network.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from qatspec.backend import compile
from qatspec.diag import DiagnosticError
from qatspec.engine import run
from qatspec.lower import lower
from qatspec.plan import resolve
from qatspec.prepare import prepare_spec, set_stage
from qatspec.registry import registry
from qatspec.spec import load
from qatspec.types import StageEvent
from tests.sample import sample, without

SPECS = Path(__file__).parents[2] / "specs"
STAGES = ["float", "calibration", "qat", "convert", "compile"]
NARROW = ("model.params.backbone.width=0.25", "model.params.backbone.depth=0.1")
SMALLER = {
    "yolo": ("model.params.width=0.125", "model.params.depth=0.1"),
    "fcos": (
        *NARROW,
        "model.params.neck={channels: 8, stacks: 1, levels: 5}",
        "model.params.head={channels: 8, convs: 1}",
    ),
    "deeplabv3plus": (
        *NARROW,
        "model.params.head.channels=16",
    ),
    "efficientnet": (
        *NARROW,
        "model.params.features=32",
    ),
}
NAMES = sorted(p.stem for p in SPECS.glob("*.yaml") if p.stem != "quickstart")

TUTORIAL = [*(f"fcos_efficientnet{v}_mscoco" for v in ("b0", "b2", "b3")),
            "deeplabv3plus_efficientnetm2_cityscapes"]  # fmt: skip
AT_THEIR_LEVEL = (TUTORIAL[0], TUTORIAL[-1])
#: Others use the same keys with other figures; their networks are made small here.
ALIKE = ("fcos_efficientnetb1_mscoco", "fcos_efficientnetb2_mscoco", "fcos_efficientnetb3_mscoco",
         "yolo_bccd", "deeplabv3plus_efficientnetm0_cityscapes",
         "deeplabv3plus_efficientnetm1_cityscapes")  # fmt: skip

pytestmark = pytest.mark.slow
pytest.importorskip("onnxruntime")


@pytest.fixture(autouse=True)
def no_data(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("BCCD_ROOT", "COCO_ROOT", "CITYSCAPES_ROOT", "IMAGENET_ROOT", "LITE0_WEIGHTS"):
        monkeypatch.delenv(variable, raising=False)


@pytest.mark.parametrize("name", without(NAMES, *ALIKE))
def test_smoke(name: str, tmp_path: Path) -> None:
    path = SPECS / f"{name}.yaml"
    family = load(path, smoke=True).model.type
    level = () if name in AT_THEIR_LEVEL else ("stages.compile.opt=O1",)
    spec = load(path, (*SMALLER[family], *level), smoke=True)
    events: list[StageEvent] = []
    summary = run(resolve(spec), tmp_path / "work", smoke=True, on_event=events.append)

    assert [(s["stage"], s["status"]) for s in summary["steps"]] == [(s, "run") for s in STAGES]
    assert set(summary["metrics"]) == {"float", "calibration", "qat", "integer"}
    compared = {Path(a["path"]).suffix: a["bit_exact"] for a in summary["artifacts"]
                if a["bit_exact"] is not None}  # fmt: skip
    assert compared == {".program": True, ".onnx": True, ".bin": True}
    told = {e.data["diagnostic"].code for e in events if "diagnostic" in e.data}
    assert "QS916" in told, "that the data is made up is said"


@pytest.mark.parametrize("name", sample(TUTORIAL, 3))
def test_the_tutorials_models_for_the_other_march(name: str) -> None:
    """As tests/bench/tutorial_models.py at full size."""
    path = SPECS / f"{name}.yaml"
    family = load(path, smoke=True).model.type
    spec = load(path, (*SMALLER[family], "march=bayes"), smoke=True)
    torch.manual_seed(0)
    model = registry().model(spec.model.type).build(spec.model.params).eval()
    x = torch.rand(1, spec.input.channels, *spec.input.size) * 2 - 1
    prepared = prepare_spec(spec, "calibration", model)
    with torch.no_grad():
        prepared.model(x)
    set_stage(prepared, "eval")
    program = lower(prepared, (x,), name=name)
    assert [port.dtype for port in program.outputs] == ["int32"] * (15 if family == "fcos" else 1)
    ints = program.quantize(x.numpy())
    artifact = compile(program, "bayes", opt="O3")
    for ours, theirs in zip(program.run(*ints), artifact.run(*ints), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("name", NAMES)
def test_a_variable_that_is_not_set_is_named(name: str) -> None:
    with pytest.raises(DiagnosticError, match="_ROOT` is not set") as caught:
        load(SPECS / f"{name}.yaml")
    assert {d.code for d in caught.value.diagnostics} == {"QS303"}
