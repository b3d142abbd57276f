"""The specs' full-size models, counted on the meta device, against published and computed figures
of the configs that they follow."""

from pathlib import Path

import pytest
import torch
from qatspec_vision.efficientnet import MBConv
from torch import nn

from qatspec.api import load, registry
from tests.zoo.count import macs, params

SPECS = Path(__file__).parents[3] / "specs"


def build(name: str, monkeypatch: pytest.MonkeyPatch) -> tuple[nn.Module, torch.Tensor]:
    """The model of a spec and an input of its size, without memory."""
    for variable in ("BCCD_ROOT", "COCO_ROOT", "CITYSCAPES_ROOT", "IMAGENET_ROOT", "LITE0_WEIGHTS"):
        monkeypatch.setenv(variable, "unused")
    spec = load(SPECS / f"{name}.yaml")
    with torch.device("meta"):
        model = registry().model(spec.model.type).build(spec.model.params)
        return model.eval(), torch.empty(1, 3, *spec.input.size)


@pytest.mark.parametrize(
    ("variant", "channels", "backbone", "millions", "units", "head"),
    [
        ("b0", [40, 112, 320], 1.90, 2.96, 16, 0.47),
        ("b2", [48, 120, 352], 7.43, 5.87, 23, 2.38),
        ("b3", [48, 136, 384], 14.89, 8.22, 26, 3.60),
    ],
)
def test_fcos(
    variant: str, channels: list[int], backbone: float, millions: float, units: int, head: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    model, images = build(f"fcos_efficientnet{variant}_mscoco", monkeypatch)
    size = tuple(images.shape[2:])
    assert model.backbone.channels == channels
    assert macs(model.backbone, size) / 1e9 == pytest.approx(backbone, abs=0.005)
    assert params(model.backbone) / 1e6 == pytest.approx(millions, abs=0.005)
    assert sum(isinstance(m, MBConv) for m in model.backbone.modules()) == units
    without_head = macs(nn.Sequential(model.backbone, model.neck), size)
    assert (macs(model, size) - without_head) / 1e9 == pytest.approx(head, abs=0.005)
    outputs = model(images)
    assert [len(part) for part in outputs] == [5, 5, 5]
    assert outputs[0][0].shape[1] == 80


@pytest.mark.parametrize(
    ("variant", "channels", "backbone", "millions", "units"),
    [
        ("m0", [40, 112, 320], 13.98, 2.11, 18),
        ("m1", [64, 112, 320], 34.06, 2.55, 22),
        ("m2", [64, 112, 320], 57.61, 2.91, 30),
    ],
)
def test_deeplab(
    variant: str, channels: list[int], backbone: float, millions: float, units: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    model, images = build(f"deeplabv3plus_efficientnet{variant}_cityscapes", monkeypatch)
    assert model.backbone.channels == channels
    found = macs(model.backbone, tuple(images.shape[2:])) / 1e9
    assert found == pytest.approx(backbone, abs=0.005)
    assert params(model.backbone) / 1e6 == pytest.approx(millions, abs=0.005)
    assert sum(isinstance(m, MBConv) for m in model.backbone.modules()) == units
    assert model(images).shape == (1, 19, 128, 256)
    assert {m.eps for m in model.modules() if isinstance(m, nn.BatchNorm2d)} == {2e-5}


def test_b1_stands_between_b0_and_b2(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = [
        params(build(f"fcos_efficientnet{v}_mscoco", monkeypatch)[0])
        for v in ("b0", "b1", "b2", "b3")
    ]
    assert sizes == sorted(sizes)


@pytest.mark.parametrize(("name", "millions"), [("efficientnetlite0_imagenet", 4.65)])
def test_classifiers(name: str, millions: float, monkeypatch: pytest.MonkeyPatch) -> None:
    model, images = build(name, monkeypatch)
    assert params(model) / 1e6 == pytest.approx(millions, abs=0.005)
    assert model(images).shape == (1, 1000)
