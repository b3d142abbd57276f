"""Evaluation and comparison of integer models: a Program, an artifact, an ONNX runner."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from qatspec.export.host import HostRunner
from qatspec.ir import IntegerModel, on_host, unflatten
from qatspec.program import Artifact, interpret_frames
from qatspec.stages.context import Context, Exactness
from qatspec.stages.training import validation_progress
from qatspec.train.evaluate import Produce, evaluate

#: real images that converted and compiled files are compared on
IMAGES = 4


def produce_with(model: IntegerModel, tree: Any, host: HostRunner | None = None) -> Produce:
    """Return a function from images (N, C, H, W) to the tree of raw outputs, computed in integers.

    host: the float parts around the integer model, if any."""

    def produce(images: Tensor) -> Any:
        given = images.cpu().numpy()
        ints = model.run(*quantized(model, host, given))
        real = model.dequantize(ints)
        nested, flat = (tree, real) if host is None else host.behind(tree, real, [given])
        return unflatten(nested, [torch.from_numpy(x) for x in flat])

    return produce


def open_host(folder: Path, name: str, tree: Any) -> HostRunner | None:
    """The float parts that convert wrote into `folder`, None where the integers are all of the
    model. Raises DiagnosticError QS725, QS723."""
    return HostRunner.load(folder, name) if on_host(tree) else None


def quantized(model: IntegerModel, host: HostRunner | None, images: np.ndarray) -> list[np.ndarray]:
    """Images as the integers of the input ports."""
    return model.quantize(*([images] if host is None else host.before(images)))


def judge(
    context: Context, model: IntegerModel, tree: Any, host: HostRunner | None = None
) -> dict[str, float]:
    """Metrics of the integers themselves on data.val."""
    return evaluate(
        produce_with(model, tree, host),
        context.decoder(),
        context.loader("val"),
        device=torch.device("cpu"),
        progress=validation_progress(context),
    )


def real_inputs(
    context: Context, model: IntegerModel, host: HostRunner | None = None
) -> list[list[np.ndarray]]:
    """Some images of data.val, or those of the context, as integers of the input ports."""
    images = context.pictures or (
        batch.images for batch in context.loader("val", batch_size=1).ordered()
    )
    return [quantized(model, host, x.numpy()) for x in itertools.islice(images, IMAGES)]


def compare(
    reference: IntegerModel, other: IntegerModel, inputs: Sequence[Sequence[np.ndarray]]
) -> Exactness:
    """Run both models on the same inputs and return the largest distance over all outputs.

    inputs: one image each, in the form that `other` accepts. Frames of a camera are converted to
    integers for the reference."""
    largest = 0
    fed = other.runtime_input if isinstance(other, Artifact) else None
    for given in inputs:
        ints = given if fed is None else [interpret_frames(fed, frames) for frames in given]
        for mine, theirs in zip(reference.run(*ints), other.run(*given), strict=True):
            distance = np.abs(mine.astype(np.int64) - theirs.astype(np.int64))
            largest = max(largest, int(distance.max(initial=0)))
    return Exactness(
        bit_exact=largest == 0, max_lsb=largest, compared=_compared(other, len(inputs))
    )


def _compared(model: IntegerModel, images: int) -> str:
    """Describe what a run of `model` on `images` images compares. `Artifact.run` of a file with
    commands executes the Program in it; the commands themselves are run by its compiler alone."""
    on_images = f"{images} image{'s' if images != 1 else ''}"
    frames = model.manifest.get("verified_frames") if isinstance(model, Artifact) else None
    if frames is None:
        return on_images
    commands = f"commands on {frames} frame" if frames else "commands not run"
    return f"Program inside on {on_images}, {commands}"
