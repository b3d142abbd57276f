"""The specs' full-size models, counted on the meta device, against published and computed figures
of the configs that they follow."""

from pathlib import Path
from typing import Any

import pytest
import torch
from qatspec_vision.efficientnet import MBConv
from torch import nn

from qatspec.api import load, registry

SPECS = Path(__file__).parents[3] / "specs"


def build(name: str, monkeypatch: pytest.MonkeyPatch) -> tuple[nn.Module, torch.Tensor]:
    """The model of a spec and an input of its size, without memory."""
    for variable in ("COCO_ROOT", "CITYSCAPES_ROOT", "IMAGENET_ROOT", "LITE0_WEIGHTS"):
        monkeypatch.setenv(variable, "unused")
    spec = load(SPECS / f"{name}.yaml")
    with torch.device("meta"):
        model = registry().model(spec.model.type).build(spec.model.params)
        return model.eval(), torch.empty(1, 3, *spec.input.size)


def macs(module: nn.Module, *inputs: Any) -> tuple[float, Any]:
    """(giga multiply-accumulates of all convolutions, the result)."""
    total = 0

    def count(conv: nn.Conv2d, _: object, output: torch.Tensor) -> None:
        nonlocal total
        total += output[0].numel() * conv.weight[0].numel()

    hooks = [m.register_forward_hook(count) for m in module.modules() if isinstance(m, nn.Conv2d)]
    result = module(*inputs)
    for hook in hooks:
        hook.remove()
    return total / 1e9, result


def parameters(module: nn.Module) -> float:
    return sum(p.numel() for p in module.parameters()) / 1e6


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
    found, maps = macs(model.backbone, images)
    assert model.backbone.channels == channels
    assert found == pytest.approx(backbone, abs=0.005)
    assert parameters(model.backbone) == pytest.approx(millions, abs=0.005)
    assert sum(isinstance(m, MBConv) for m in model.backbone.modules()) == units
    found, outputs = macs(model.head, model.neck(maps))
    assert found == pytest.approx(head, abs=0.005)
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
    found, _ = macs(model.backbone, images)
    assert model.backbone.channels == channels
    assert found == pytest.approx(backbone, abs=0.005)
    assert parameters(model.backbone) == pytest.approx(millions, abs=0.005)
    assert sum(isinstance(m, MBConv) for m in model.backbone.modules()) == units
    assert model(images).shape == (1, 19, 128, 256)
    assert {m.eps for m in model.modules() if isinstance(m, nn.BatchNorm2d)} == {2e-5}


def test_b1_stands_between_b0_and_b2(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = [
        parameters(build(f"fcos_efficientnet{v}_mscoco", monkeypatch)[0])
        for v in ("b0", "b1", "b2", "b3")
    ]
    assert sizes == sorted(sizes)


@pytest.mark.parametrize(("name", "millions"), [("efficientnetlite0_imagenet", 4.65)])
def test_classifiers(name: str, millions: float, monkeypatch: pytest.MonkeyPatch) -> None:
    model, images = build(name, monkeypatch)
    assert parameters(model) == pytest.approx(millions, abs=0.005)
    assert model(images).shape == (1, 1000)
