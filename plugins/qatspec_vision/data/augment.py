"""From a picture of any size to the model's input, with or without random changes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Boxes = NDArray[np.float32]

#: A cropped object whose visible part is smaller than this is no longer a target.
MIN_VISIBLE = 0.4


@dataclass(frozen=True, kw_only=True)
class Augment:
    """Random changes of a training picture; the defaults change nothing.

    flip   probability of a left-right flip.
    scale  range of the resize factor relative to fitting the picture into the input; larger
           pictures are cropped, smaller ones placed, both at random.
    hsv    largest change of hue (of the whole circle), saturation and value (of themselves).
    mosaic probability that three other pictures share the input (qatspec_vision.data.mosaic).
    mixup  probability that another picture is laid over this one, after mosaic.
    mixed_epochs  mosaic and mixup rest from this epoch of a stage on; None: they never do.
    """

    flip: float = 0.0
    scale: tuple[float, float] = (1.0, 1.0)
    hsv: tuple[float, float, float] = (0.0, 0.0, 0.0)
    mosaic: float = 0.0
    mixup: float = 0.0
    mixed_epochs: int | None = None

    @staticmethod
    def of(given: Mapping[str, Any]) -> Augment:
        """From a spec's `augment`."""
        return Augment(
            flip=given.get("flip", 0.0),
            scale=tuple(given.get("scale", (1.0, 1.0))),
            hsv=tuple(given.get("hsv", (0.0, 0.0, 0.0))),
            mosaic=given.get("mosaic", 0.0),
            mixup=given.get("mixup", 0.0),
            mixed_epochs=given.get("mixed_epochs"),
        )

    def at(self, epoch: int) -> Augment:
        """What is left of it at an epoch of a stage, counted from 0."""
        if self.mixed_epochs is None or epoch < self.mixed_epochs:
            return self
        return replace(self, mosaic=0.0, mixup=0.0)


class Placement(NamedTuple):
    """input = picture * scale + (x, y), in pixels."""

    scale: float
    x: int
    y: int


def fit(picture: tuple[int, int], size: tuple[int, int]) -> Placement:
    """The largest placement without a crop, at the top left. Both sizes are (H, W)."""
    return Placement(min(size[0] / picture[0], size[1] / picture[1]), 0, 0)


def random_placement(
    picture: tuple[int, int], size: tuple[int, int], augment: Augment, rng: np.random.Generator
) -> Placement:
    """A random scale and a random place for what is left over or cut off."""
    low, high = augment.scale
    if low == high == 1.0:
        return fit(picture, size)
    scale = fit(picture, size).scale * float(rng.uniform(low, high))
    spare = [full - round(side * scale) for full, side in zip(size, picture, strict=True)]
    y, x = (int(rng.integers(min(0, s), max(0, s), endpoint=True)) for s in spare)
    return Placement(scale, x, y)


def place(
    image: Image.Image,
    size: tuple[int, int],
    at: Placement,
    fill: int,
    resampling: Image.Resampling = Image.Resampling.BILINEAR,
) -> Image.Image:
    """The picture on a canvas of `size` (H, W), grey of level `fill` where it does not reach."""
    height, width = size
    scaled = (max(1, round(image.width * at.scale)), max(1, round(image.height * at.scale)))
    if scaled == image.size == (width, height):
        return image
    # Resize only the part that is seen: a crop at twice the size would else cost four times.
    left, top = max(0, -at.x), max(0, -at.y)
    right, bottom = min(scaled[0], width - at.x), min(scaled[1], height - at.y)
    per_x, per_y = image.width / scaled[0], image.height / scaled[1]
    seen = image.resize(
        (right - left, bottom - top),
        resampling,
        box=(left * per_x, top * per_y, right * per_x, bottom * per_y),
    )
    canvas = Image.new(image.mode, (width, height), (fill,) * len(image.getbands()))
    canvas.paste(seen, (at.x + left, at.y + top))
    return canvas


def place_boxes(
    boxes: Boxes, size: tuple[int, int], at: Placement
) -> tuple[Boxes, NDArray[np.bool_]]:
    """Boxes (M, 4) xyxy in the placed picture, clipped to it, and which of them are still seen."""
    moved = boxes * np.float32(at.scale) + np.array([at.x, at.y, at.x, at.y], np.float32)
    height, width = size
    clipped = np.clip(moved, 0, np.array([width, height, width, height], np.float32))
    seen = _area(clipped) >= MIN_VISIBLE * np.maximum(_area(moved), 1e-6)
    return clipped, seen & (clipped[:, 2:] - clipped[:, :2] >= 1).all(axis=1)


def flip(image: Image.Image, boxes: Boxes) -> tuple[Image.Image, Boxes]:
    """Left-right."""
    mirrored = boxes.copy()
    mirrored[:, [0, 2]] = image.width - boxes[:, [2, 0]]
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT), mirrored


def shift_hsv(
    image: Image.Image, amount: tuple[float, float, float], rng: np.random.Generator
) -> Image.Image:
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
