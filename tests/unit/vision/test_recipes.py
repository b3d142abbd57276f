"""The specs' training recipes against those of the configs and the community tutorial that they
follow, and the table of specs/README.md against the models."""

import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from qatspec_vision.blocks import VARIANTS
from torch import nn

from qatspec.api import Spec, load, registry
from tests.zoo.count import macs, params

SPECS = Path(__file__).parents[3] / "specs"
COCO_PICTURES = 118287  # of train2017


@pytest.fixture(autouse=True)
def places(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("BCCD_ROOT", "COCO_ROOT", "CITYSCAPES_ROOT", "IMAGENET_ROOT", "LITE0_WEIGHTS"):
        monkeypatch.setenv(variable, "unused")


def fcos(variant: str) -> Spec:
    return load(SPECS / f"fcos_efficientnet{variant}_mscoco.yaml")


def segmenter(variant: str) -> Spec:
    return load(SPECS / f"deeplabv3plus_efficientnet{variant}_cityscapes.yaml")


def trainer(spec: Spec, stage: str) -> Any:
    return spec.stages[stage].trainer


@pytest.mark.parametrize(
    ("variant", "size", "channels", "stacks", "giou_weight"),
    [("b0", 512, 64, 3, 2.0), ("b2", 768, 112, 5, 3.0), ("b3", 896, 120, 6, 3.0)],
)
def test_fcos_network(
    variant: str, size: int, channels: int, stacks: int, giou_weight: float
) -> None:
    spec = fcos(variant)
    given = spec.model.params
    assert (tuple(spec.input.size), spec.input.format) == ((size, size), "yuv444")
    assert (spec.input.mean, spec.input.std, spec.input.scale) == (128, 128, 1 / 128)
    assert given["neck"] == {"channels": channels, "stacks": stacks, "levels": 5}
    assert given["head"] == {"channels": channels, "convs": 4}
    assert given["backbone"]["strides"] == [8, 16, 32]
    assert (given["target"]["topk"], given["target"]["giou_weight"]) == (10, giou_weight)
    assert given["loss"] == {
        "alpha": 0.25, "gamma": 2.0, "cls_weight": 1.0, "reg_weight": 1.0, "centerness_weight": 1.0,
    }  # fmt: skip
    assert given["decoder"] == {
        "score_threshold": 0.05, "nms_pre": 1000, "iou_threshold": 0.6, "max_detections": 100,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("variant", "lr", "batch", "warmup_epochs"),
    [("b0", 0.14, 24, 2), ("b2", 0.07, 8, 2), ("b3", 0.14, 4, 0.3)],
)
def test_fcos_float(variant: str, lr: float, batch: int, warmup_epochs: float) -> None:
    spec = fcos(variant)
    said = trainer(spec, "float")
    assert said.optimizer.type == "sgd"
    assert said.optimizer.params == {
        "lr": lr, "momentum": 0.937, "nesterov": True, "weight_decay": 4e-5, "groups": [],
    }  # fmt: skip
    assert said.scheduler.type == "cosine"
    steps = warmup_epochs * COCO_PICTURES / (8 * batch)
    assert said.scheduler.params["warmup_steps"] == pytest.approx(steps, abs=1)
    assert (said.epochs, spec.data["train"].batch_size) == (300, batch)
    assert said.ema is not None and said.batch_norm == "synchronized"
    augment = spec.data["train"].dataset.params["augment"]
    assert (augment["flip"], augment["scale"]) == (0.5, [0.5, 2.0])
    assert all(part > 0 for part in augment["hsv"])
    mixed = (augment["mosaic"], augment["mixup"], augment["mixed_epochs"])
    assert mixed == ((0.0, 0.0, None) if variant == "b0" else (1.0, 1.0, 285))


@pytest.mark.parametrize(
    ("variant", "steps", "batch", "observer"),
    [("b0", 2000, 24, "percentile"), ("b2", 100, 4 * 8, "min_max"), ("b3", 100, 4 * 4, "min_max")],
)
def test_fcos_calibration(variant: str, steps: int, batch: int, observer: str) -> None:
    spec = fcos(variant)
    assert trainer(spec, "calibration").steps == steps
    assert spec.data["calibration"].batch_size == batch
    backbone: Any = spec.quantization("calibration")[0]
    (rule,) = backbone.qconfig.rules
    value = rule.value
    activation, preset = value.activation, registry().qconfig("horizon_calibration").config
    assert (activation.observer, activation.fake_quant) == (observer, "fixed")
    assert value.weight == preset.weight


@pytest.mark.parametrize(
    ("variant", "lr", "decays", "batch", "batch_norm"),
    [
        ("b0", 1e-5, [4], 24, "frozen"),
        ("b2", 1e-3, [2, 5, 10], 6, "running"),
        ("b3", 1e-4, [4, 10], 2, "frozen"),
    ],
)
def test_fcos_qat(variant: str, lr: float, decays: list[int], batch: int, batch_norm: str) -> None:
    """Weight decay and the batch sizes are the community tutorial's, and so is frozen batch norm
    where a batch is small."""
    spec = fcos(variant)
    said = trainer(spec, "qat")
    assert said.optimizer.type == "sgd"
    assert said.optimizer.params == {
        "lr": lr, "momentum": 0.9, "nesterov": False, "weight_decay": 5e-5, "groups": [],
    }  # fmt: skip
    assert said.scheduler.type == "step"
    assert said.scheduler.params == {"epochs": decays, "factor": 0.1, "warmup_steps": 0}
    assert (said.epochs, said.batch_norm, said.ema) == (15, batch_norm, None)
    assert spec.stages["qat"].batch_size == batch
    role = spec.data.get("qat", spec.data["train"])
    assert role.dataset.params["augment"]["mosaic"] == 0


def test_yolo_s() -> None:
    """The float recipe of YOLOX-s (Ge et al., 2021, section 2): SGD from 0.01 for 64 pictures a
    step, cosine after five epochs of warm-up, 300 epochs, mosaic and mixup but in the last 15."""
    spec = load(SPECS / "yolo_s_mscoco.yaml")
    given = spec.model.params
    assert (given["width"], given["depth"], given["strides"]) == (0.5, 0.33, [8, 16, 32])
    assert given["loss"] == {
        "box": "giou", "cls_weight": 1.0, "reg_weight": 5.0, "objectness_weight": 1.0,
    }  # fmt: skip
    assert given["target"] == {"topk": 10, "iou_weight": 3.0, "center_radius": 2.5}
    assert (tuple(spec.input.size), spec.data["train"].batch_size) == ((640, 640), 8)
    said = trainer(spec, "float")
    assert said.optimizer.params == {
        "lr": 0.01, "momentum": 0.9, "nesterov": True, "weight_decay": 5e-4, "groups": [],
    }  # fmt: skip
    steps = 5 * COCO_PICTURES / (8 * 8)
    assert said.scheduler.params["warmup_steps"] == pytest.approx(steps, abs=1)
    assert (said.epochs, said.ema, said.batch_norm) == (300, 0.9998, "synchronized")
    augment = spec.data["train"].dataset.params["augment"]
    assert (augment["mosaic"], augment["mixup"], augment["mixed_epochs"]) == (1.0, 1.0, 285)


@pytest.mark.parametrize(("variant", "channels"), [("m0", 128), ("m1", 256), ("m2", 256)])
def test_deeplab(variant: str, channels: int) -> None:
    spec = segmenter(variant)
    assert tuple(spec.input.size) == (1024, 2048)
    assert spec.data["train"].dataset.params["size"] == [512, 1024]
    given = spec.model.params
    assert given["num_classes"] == 19
    assert given["head"] == {
        "channels": channels, "dilations": [1, 2, 4, 4], "repeats": [1, 1, 1, 2], "dropout": 0.1,
    }  # fmt: skip
    assert given["auxiliary"]["weight"] == 0.4
    assert given["batch_norm"] == {"eps": 2e-5, "momentum": 0.1}

    said = trainer(spec, "float")
    assert said.optimizer.type == "sgd"
    assert said.optimizer.params == {
        "lr": 0.03, "momentum": 0.9, "nesterov": False, "weight_decay": 5e-4, "groups": [],
    }  # fmt: skip
    assert (said.epochs, said.scheduler.type) == (600, "cosine")
    assert said.batch_norm == trainer(spec, "qat").batch_norm == "synchronized"
    assert spec.data["train"].batch_size == 4
    assert trainer(spec, "calibration").steps == 10
    optimizer = trainer(spec, "qat").optimizer.params
    assert (optimizer["lr"], optimizer["weight_decay"]) == (1e-3, 5e-5)
    assert trainer(spec, "qat").epochs == said.epochs / 10


EARLY = {
    "m0": [(3, 1, 16, 1, 1), (3, 2, 24, 6, 2), (5, 4, 40, 6, 2), (3, 3, 80, 6, 2)],
    "m1": [(3, 1, 32, 1, 1), (3, 2, 48, 6, 2), (5, 8, 64, 6, 2), (3, 3, 80, 6, 2)],
    "m2": [(3, 1, 32, 1, 1), (3, 6, 48, 6, 2), (5, 12, 64, 6, 2), (3, 3, 80, 6, 2)],
}


@pytest.mark.parametrize("variant", EARLY)
def test_block_arguments_of_the_segmenters(variant: str) -> None:
    late = [(5, 3, 112, 4, 1), (5, 4, 192, 4, 2), (3, 1, 320, 4, 1)]
    assert list(VARIANTS[variant].blocks) == EARLY[variant] + late


def rows() -> dict[str, tuple[str, ...]]:
    """Spec -> input, parameters, GMAC of the README's first table."""
    row = re.compile(r"^\| \[(\w+)\].*\| ([\d x]+) \| ([\d.]+) M \| ([\d.]+) \|$", re.MULTILINE)
    found = row.findall((SPECS / "README.md").read_text())
    return {name: figures for name, *figures in found}


def test_the_readme_lists_every_spec() -> None:
    assert set(rows()) == {path.stem for path in SPECS.glob("*.yaml")}


@pytest.mark.parametrize("name", sorted(path.stem for path in SPECS.glob("*.yaml")))
def test_sizes_of_the_readme(name: str) -> None:
    spec = load(SPECS / f"{name}.yaml")
    with torch.device("meta"):
        model: nn.Module = registry().model(spec.model.type).build(spec.model.params)
        height, width = spec.input.size
        counted = macs(model.eval(), (height, width)) / 1e9
    size, millions, giga = rows()[name]
    assert size == f"{height} x {width}"
    assert math.isclose(params(model) / 1e6, float(millions), abs_tol=0.0051)
    assert math.isclose(counted, float(giga), abs_tol=0.0051)
