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
from qatspec.graph.arguments import port_name
from qatspec.ir import IntegerModel, on_host, unflatten
from qatspec.program import Artifact, interpret_frames
from qatspec.stages.context import Context, Exactness
from qatspec.stages.training import class_details, validation_progress
from qatspec.train.evaluate import Produce, evaluate

#: real images that converted and compiled files are compared on
IMAGES = 4


def produce_with(
    model: IntegerModel, tree: Any, host: HostRunner | None = None, names: Sequence[str] = ("",)
) -> Produce:
    """Return a function from the inputs of forward to the tree of raw outputs, in integers.

    host: the float parts around the integer model, if any. names: of the inputs."""

    def produce(*inputs: Tensor) -> Any:
        arrays = [x.cpu().numpy() for x in inputs]
        ints = model.run(*quantized(model, host, arrays, names))
        real = model.dequantize(ints)
        nested, flat = (tree, real) if host is None else host.behind(tree, real, arrays)
        return unflatten(nested, [torch.from_numpy(x) for x in flat])

    return produce


def open_host(folder: Path, name: str, tree: Any) -> HostRunner | None:
    """The float parts that convert wrote into `folder`, None where the integers are all of the
    model. Raises DiagnosticError QS725, QS723."""
    return HostRunner.load(folder, name) if on_host(tree) else None


def quantized(
    model: IntegerModel,
    host: HostRunner | None,
    inputs: Sequence[np.ndarray],
    names: Sequence[str] = ("",),
) -> list[np.ndarray]:
    """The inputs of forward as the integers of the input ports. names: of the inputs."""
    if host is not None and host.pre is not None:
        return model.quantize(*host.before(*inputs))
    if len(inputs) == len(model.inputs):
        return model.quantize(*inputs)
    # the rest is read behind the integers, or not at all
    by_port = dict(zip(map(port_name, names), inputs, strict=True))
    return model.quantize(*(by_port[port.name] for port in model.real_inputs))


def judge(
    context: Context, model: IntegerModel, tree: Any, host: HostRunner | None = None
) -> dict[str, float]:
    """Metrics of the integers themselves on data.val; every process of the stage calls it, and
    evaluates a part."""
    return evaluate(
        produce_with(model, tree, host, tuple(context.inputs)),
        context.decoder(),
        context.loader("val"),
        device=context.device,
        progress=validation_progress(context),
        group=context.group,
        tell=class_details(context),
    )


def real_inputs(
    context: Context, model: IntegerModel, host: HostRunner | None = None
) -> list[list[np.ndarray]]:
    """Some examples of data.val, or those of the context, as integers of the input ports."""
    examples = context.examples or (
        batch.inputs for batch in context.loader("val", batch_size=1).ordered()
    )
    names = tuple(context.inputs)
    return [
        quantized(model, host, [x.numpy() for x in inputs], names)
        for inputs in itertools.islice(examples, IMAGES)
    ]


def compare(
    reference: IntegerModel, other: IntegerModel, inputs: Sequence[Sequence[np.ndarray]]
) -> Exactness:
    """Run both models on the same inputs and return the largest distance over all outputs: in
    steps, and in words as a share of the largest value that the output has on any of the inputs, as
    int32 outputs have many steps.

    inputs: one image each, in the form that `other` accepts. Frames of a camera are converted to
    integers for the reference."""
    apart = np.zeros(len(reference.outputs), np.int64)
    reached = np.ones(len(reference.outputs), np.int64)
    feds = other.runtime_inputs if isinstance(other, Artifact) else ()
    fed = {f.port.name: f for f in feds}
    for feed in inputs:
        ints = feed
        if fed:
            names = [port.name for port in other.inputs]
            ints = [
                interpret_frames(fed[name], frames) if name in fed else frames
                for name, frames in zip(names, feed, strict=True)
            ]
        pairs = zip(reference.run(*ints), other.run(*feed), strict=True)
        for output, (mine, theirs) in enumerate(pairs):
            wide = mine.astype(np.int64)
            distance = np.abs(wide - theirs.astype(np.int64)).max(initial=0)
            apart[output] = max(apart[output], distance)
            reached[output] = max(reached[output], np.abs(wide).max(initial=0))
    largest = int(apart.max(initial=0))
    share = 100 * float((apart / reached).max(initial=0.0))
    words = f", apart by at most {share:.2g} % of the largest value of an output" if largest else ""
    return Exactness(
        bit_exact=largest == 0, max_lsb=largest, compared=_compared(other, len(inputs)) + words
    )


def _compared(model: IntegerModel, images: int) -> str:
    """Describe what a run of `model` on `images` images compares: a file with commands is run by
    them (`qatspec.backend.machine`)."""
    on_images = f"{images} image{'s' if images != 1 else ''}"
    by_commands = isinstance(model, Artifact) and "commands" in model.sections
    return f"{on_images}, by its commands" if by_commands else on_images
