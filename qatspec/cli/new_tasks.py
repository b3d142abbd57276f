"""The models that `qatspec new DIR` begins with: one for each task, and those of libraries."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import click

_CENTRED: Mapping[str, Any] = {"mean": 128, "std": 128, "scale": 0.0078125}
_LOSSLESS = """\
  # (pixel - 128) / 128, quantized by a fixed 1/128: a pixel's 8 bits are the chip's input as is.
  # For weights that were trained on ImageNet's mean and std, write those and delete `scale`."""
#: Of pixels from 0 to 255; what the weights of torchvision and most of timm were trained with.
IMAGENET: Mapping[str, Any] = {
    "mean": [123.675, 116.28, 103.53], "std": [58.395, 57.12, 57.375]
}  # fmt: skip
_TRAINED_WITH = "  # What the published weights were trained with, in pixels from 0 to 255."


@dataclass(frozen=True)
class Task:
    """How a spec begins for a task.

    model      registered name; params: besides num_classes.
    multiple   sides of the input are multiples of it; limit: and at most that long.
    quantize   what is prepared, as YAML.
    augment    of the training pictures.
    image      how pictures are normalised, and why: keys of `model.input`.
    size       (height, width) of the input; None: after the pictures.
    lr         learning rate of the float stage.
    """

    model: str
    multiple: int
    limit: int
    quantize: str
    augment: Mapping[str, Any]
    params: Mapping[str, Any] = field(default_factory=dict)
    image: Mapping[str, Any] = field(default_factory=lambda: _CENTRED)
    why: str = _LOSSLESS
    size: tuple[int, int] | None = None
    lr: float = 0.002


_DETECTION = """\
  modules:
    backbone: {prepare: horizon}
    neck: {prepare: horizon, quantize_input: false}
    head: {prepare: horizon, quantize_input: false, quantize_output: false}"""
_SEGMENTATION = """\
  modules:
    backbone: {prepare: horizon}
    decode_head: {prepare: horizon, quantize_input: false, quantize_output: false}"""
_CLASSIFICATION = """\
  modules:
    backbone: {prepare: horizon}
    head: {prepare: horizon, quantize_input: false, quantize_output: false}"""
_WHOLE = """\
  prepare: horizon
  quantize_output: false"""
TASKS = {
    "detection": Task("fcos", 128, 512, _DETECTION, {"flip": 0.5, "scale": [0.8, 1.2]}),
    "segmentation": Task("deeplabv3plus", 32, 512, _SEGMENTATION, {"flip": 0.5}),
    "classification": Task("efficientnet", 32, 224, _CLASSIFICATION, {"flip": 0.5}),
}


#: Library -> the params of its model that ask for published weights.
_WEIGHTS: Mapping[str, Mapping[str, Any]] = {
    "timm": {"pretrained": True},
    "torchvision": {"weights": "DEFAULT"},
}


def library_task(library: str) -> Task:
    """How a spec begins with a classifier of a library. library: timm:NAME or torchvision:NAME.

    Raises UsageError for another text."""
    package, _, name = library.partition(":")
    weights = _WEIGHTS.get(package)
    if weights is None or not name:
        raise click.UsageError(f"`{library}` is neither timm:NAME nor torchvision:NAME")
    task = Task(
        model=package, multiple=32, limit=224, quantize=_WHOLE, augment={"flip": 0.5},
        params={"name": name, **weights}, image=IMAGENET, why=_TRAINED_WITH, size=(224, 224),
        lr=0.0005,
    )  # fmt: skip
    known = _timm_config(name) if package == "timm" else None
    return task if known is None else replace(task, **known)


def _timm_config(name: str) -> dict[str, Any] | None:
    """What the installed timm says of a model's input; None without timm, or for another name."""
    if importlib.util.find_spec("timm") is None:
        return None
    config = importlib.import_module("timm.models").get_pretrained_cfg(name)
    if config is None:
        return None
    image = {key: [round(255 * v, 4) for v in getattr(config, key)] for key in ("mean", "std")}
    return {"image": image, "size": tuple(config.input_size[1:])}
