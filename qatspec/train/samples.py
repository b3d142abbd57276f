"""Batches of the arrays of samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from qatspec.picture import Pixels
from qatspec.spec.model import GivenInput, InputSpec, TensorSpec
from qatspec.train.byte_images import ByteImages
from qatspec.types import PixelSample, Sample

#: The model's inputs by name, in the order of forward; `model.input` is "".
Inputs = Mapping[str, GivenInput]
#: What a data set yields.
AnySample = Sample | PixelSample
#: The inputs of a model that takes one picture of any size.
ONE_PICTURE: Inputs = {"": InputSpec(size=(1, 1))}
#: Channels, height and width.
PICTURE_DIMS = 3


def is_normalizable(pixels: Pixels) -> bool:
    """Whether bytes are a picture, with as many means and deviations as channels, or one."""
    values = pixels.values
    if not isinstance(values, np.ndarray) or values.dtype != np.uint8:
        return False
    try:
        mean, std = pixels.levels()
    except (TypeError, ValueError):
        return False
    fitting = all(len(level) in (1, len(values)) for level in (mean, std))
    return values.ndim == PICTURE_DIMS and fitting and bool(np.isfinite(mean).all() and std.all())


def arrays_of(sample: AnySample, inputs: Inputs) -> list[np.ndarray | Pixels]:
    """The arrays of a sample in the order of `inputs`; pictures of a PixelSample as bytes."""
    values = sample.pixels if isinstance(sample, PixelSample) else sample.image
    return [values[name] for name in inputs] if isinstance(values, Mapping) else [values]


def tensors_of(
    samples: Sequence[AnySample], inputs: Inputs = ONE_PICTURE
) -> tuple[Tensor | ByteImages, ...]:
    """Each input of samples as one batch, whatever the byte order of their arrays. Pictures stay
    bytes where all of a batch are bytes that are normalised alike."""
    columns = zip(*(arrays_of(sample, inputs) for sample in samples), strict=True)
    return tuple(_stacked(c, given) for c, given in zip(columns, inputs.values(), strict=True))


def _stacked(column: Sequence[np.ndarray | Pixels], given: GivenInput) -> Tensor | ByteImages:
    pixels = [one for one in column if isinstance(one, Pixels)]
    if len(pixels) == len(column) and (images := ByteImages.of(pixels)):
        return images
    arrays = [one.normalized() if isinstance(one, Pixels) else one for one in column]
    return torch.from_numpy(np.stack(arrays).astype(_dtype(given), copy=False))


def _dtype(given: GivenInput) -> str:
    return given.dtype if isinstance(given, TensorSpec) else "float32"
