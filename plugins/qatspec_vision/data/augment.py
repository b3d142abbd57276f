"""From a picture of any size to the model's input, with or without random changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from qatspec.api import ModelInput, Placement

if TYPE_CHECKING:
    from typing_extensions import Self

Boxes = NDArray[np.float32]

#: A cropped object whose visible part is smaller than this is no longer a target.
MIN_VISIBLE = 0.4


@dataclass(frozen=True, kw_only=True)
class FittedAugment:
    """Random changes of a training picture: keys of a segmentation set's `augment`.

    flip   probability of a left-right flip.
    scale  [low, high] of the resize factor relative to fitting the picture into the input; larger
           pictures are cropped, smaller ones placed, both at random.
    hsv    largest change of hue (of the whole circle), saturation and value (of themselves).
    """

    flip: float
    scale: Sequence[float]
    hsv: Sequence[float]

    @classmethod
    def of(cls, params: Mapping[str, Any]) -> Self:
        """Take the fields from a spec's `augment`, which holds every key of the schema."""
        return cls(**{field.name: params[field.name] for field in fields(cls)})


@dataclass(frozen=True, kw_only=True)
class Augment(FittedAugment):
    """Random changes of a training picture: keys of a detection set's `augment`.

    mosaic        probability that three other pictures share the input
                  (qatspec_vision.data.mosaic).
    mixup         probability that another picture is laid over this one, after mosaic.
    mixed_epochs  mosaic and mixup rest from this epoch of a stage on; None: they never do.
    """

    mosaic: float
    mixup: float
    mixed_epochs: int | None

    def at(self, epoch: int) -> Augment:
        """What is left of it at an epoch of a stage, counted from 0."""
        if self.mixed_epochs is None or epoch < self.mixed_epochs:
            return self
        return replace(self, mosaic=0.0, mixup=0.0)


def random_placement(
    image: Image.Image, fed: ModelInput, augment: FittedAugment, rng: np.random.Generator
) -> Placement:
    """A random scale relative to fitting, and a random place for what is left over or cut off."""
    low, high = augment.scale
    fitted = fed.fitted(image)
    if low == high == 1.0:
        return fitted
    factor = float(rng.uniform(low, high))
    scale_x, scale_y = fitted.scale_x * factor, fitted.scale_y * factor
    height, width = fed.size
    spare = height - round(image.height * scale_y), width - round(image.width * scale_x)
    y, x = (int(rng.integers(min(0, s), max(0, s), endpoint=True)) for s in spare)
    return Placement(scale_x, scale_y, x, y)


def place_boxes(
    boxes: Boxes, size: tuple[int, int], at: Placement
) -> tuple[Boxes, NDArray[np.bool_]]:
    """Boxes (M, 4) xyxy in the placed picture, clipped to it, and which of them are still seen."""
    scale = np.array([at.scale_x, at.scale_y] * 2, np.float32)
    moved = boxes * scale + np.array([at.x, at.y] * 2, np.float32)
    height, width = size
    clipped = np.clip(moved, 0, np.array([width, height, width, height], np.float32))
    visible = _area(clipped) >= MIN_VISIBLE * np.maximum(_area(moved), 1e-6)
    return clipped, visible & (clipped[:, 2:] - clipped[:, :2] >= 1).all(axis=1)


def flip(image: Image.Image, boxes: Boxes) -> tuple[Image.Image, Boxes]:
    """Left-right."""
    mirrored = boxes.copy()
    mirrored[:, [0, 2]] = image.width - boxes[:, [2, 0]]
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT), mirrored


def shift_hsv(image: Image.Image, amount: Sequence[float], rng: np.random.Generator) -> Image.Image:
    """Hue turned, saturation and value scaled, each by a random part of `amount`."""
    hue, saturation, value = rng.uniform(-1, 1, 3) * amount
    levels = np.arange(256)
    tables = (
        (levels + round(hue * 256)) % 256,
        np.clip(levels * (1 + saturation), 0, 255),
        np.clip(levels * (1 + value), 0, 255),
    )
    table = np.concatenate(tables).astype(np.uint8).tolist()
    return image.convert("HSV").point(table).convert("RGB")


def _area(boxes: Boxes) -> NDArray[np.float32]:
    sides = np.maximum(boxes[:, 2:] - boxes[:, :2], 0)
    areas: NDArray[np.float32] = sides.prod(axis=1)
    return areas
