"""The models that `qatspec new` begins with: one for each task, and those of libraries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import click

from qatspec.cli.new_spec import Draft, Task
from qatspec.diag.words import quote_list
from qatspec.registry import registry

_CENTRED: Mapping[str, Any] = {"mean": 128, "std": 128, "scale": 0.0078125}
_LOSSLESS = """\
  # (pixel - 128) / 128, quantized by a fixed 1/128: a pixel's 8 bits are the chip's input as is.
  # For weights that were trained on ImageNet's mean and std, write those and delete `scale`."""
#: The folder of pictures of a spec that no folder was given for.
IMAGENET = "imagenet"
_TRAINED_WITH = "  # What the published weights were trained with, in pixels from 0 to 255."


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
    "detection": Task(
        model="fcos", multiple=128, limit=512, image=_CENTRED, why=_LOSSLESS,
        augment={"flip": 0.5, "scale": [0.8, 1.2]}, quantize=_DETECTION,
    ),
    "segmentation": Task(
        model="deeplabv3plus", limit=512, image=_CENTRED, why=_LOSSLESS, augment={"flip": 0.5},
        quantize=_SEGMENTATION,
    ),
    "classification": Task(
        model="efficientnet", image=_CENTRED, why=_LOSSLESS, augment={"flip": 0.5},
        quantize=_CLASSIFICATION,
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Library:
    """A classifier that --from names. notes: what the user should know of it."""

    name: str
    task: Task
    notes: Sequence[str]


def named(text: str) -> Library:
    """A classifier of a library. text: timm:NAME, torchvision:NAME, or a model of a plugin that is
    found by name.

    Raises UsageError for another text, and DiagnosticError where the library is not installed
    (QS915) or does not have the name (QS917)."""
    names = registry()
    package, _, name = text.partition(":")
    known = [n for n in names.names("model") if names.model(n).by_name is not None]
    if package not in known or not name:
        forms = quote_list([f"{package}:NAME" for package in known])
        raise click.UsageError(f"`{text}` is none of {forms}")
    definition = names.model(package)
    assert definition.by_name is not None
    with names.attribute_errors(definition, f"looking for `{name}` in `{package}`"):
        listed = definition.by_name(name)
    image = {key: value for key, value in listed.input.items() if key != "size"}
    task = Task(
        model=package, params=listed.params, image=image, why=_TRAINED_WITH, lr=0.0005,
        augment={"flip": 0.5}, quantize=_WHOLE,
        size=tuple(listed.input["size"]) if "size" in listed.input else (224, 224),
        smoke={"model": {"params": dict(listed.untrained)}} if listed.untrained else {},
    )  # fmt: skip
    return Library(name, task, listed.notes)


def draft(chosen: Library, name: str, march: str) -> Draft:
    """The spec of a classifier without a folder of pictures: ImageNet's layout beside the spec."""
    assert chosen.task.size is not None
    roles: dict[str, dict[str, Any]] = {
        "train": {"root": IMAGENET, "split": "train", "augment": dict(chosen.task.augment)},
        "calibration": {"root": IMAGENET, "split": "train"},
        "val": {"root": IMAGENET, "split": "val"},
    }
    made_up = {role: {"params": {"made_up": 4}} for role in roles}
    return Draft(
        name=name,
        march=march,
        said=[
            f"{chosen.name} of {chosen.task.model}, on pictures in {IMAGENET}/train/<class>/ and",
            f"{IMAGENET}/val/<class>/ beside this file. The folders, sorted, are the classes of",
            "the published weights; for others, add `num_classes` to `model.params`.",
            "`qatspec run --smoke` needs no pictures.",
            *chosen.notes,
        ],
        task=chosen.task,
        model_params=chosen.task.params,
        size=chosen.task.size,
        dataset="imagefolder_classification",
        roles=roles,
        batch=8,
        workers=2,
        smoke={"vars": {"batch_size": 2}, **chosen.task.smoke, "data": made_up},
    )
