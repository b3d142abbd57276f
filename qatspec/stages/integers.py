"""Judging and comparing what runs integers: a Program, an Artifact, an ONNX runner."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from qatspec.program import Ported, unflatten
from qatspec.stages.context import Context, Exactness
from qatspec.stages.training import validation_progress
from qatspec.train.evaluate import Produce, evaluate

#: real images that converted and compiled files are compared on
IMAGES = 4


def produce_with(ported: Ported, tree: Any) -> Produce:
    """Images to the tree of raw outputs that the model's forward would give, by integers."""

    def produce(images: Tensor) -> Any:
        ints = ported.run(*ported.quantize(images.cpu().numpy()))
        return unflatten(tree, [torch.from_numpy(x) for x in ported.dequantize(ints)])

    return produce


def judge(context: Context, ported: Ported, tree: Any) -> dict[str, float]:
    """Metrics of the integers themselves on data.val."""
    return evaluate(
        produce_with(ported, tree),
        context.decoder(),
        context.loader("val"),
        device=torch.device("cpu"),
        progress=validation_progress(context),
    )


def real_inputs(context: Context) -> list[np.ndarray]:
    """Some images of data.val, (1, C, H, W) float32 each."""
    images = (batch.images for batch in context.loader("val", batch_size=1).ordered())
    return [image.numpy() for image in itertools.islice(images, IMAGES)]


def compare(reference: Ported, other: Ported, images: Sequence[np.ndarray]) -> Exactness:
    """Feed both the same integers and take the largest distance over all outputs."""
    largest = 0
    for image in images:
        ints = reference.quantize(image)
        for mine, theirs in zip(reference.run(*ints), other.run(*ints), strict=True):
            distance = np.abs(mine.astype(np.int64) - theirs.astype(np.int64))
            largest = max(largest, int(distance.max(initial=0)))
    return Exactness(bit_exact=largest == 0, max_lsb=largest)
