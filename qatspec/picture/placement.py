"""The placement of a picture in the model's input, and the inverse mapping."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import numpy as np
from PIL import Image

Resize = Literal["letterbox", "stretch"]


class Placement(NamedTuple):
    """input = picture * (scale_x, scale_y) + (x, y), in pixels."""

    scale_x: float
    scale_y: float
    x: int = 0
    y: int = 0

    @staticmethod
    def fitted(
        picture: tuple[int, int], size: tuple[int, int], resize: Resize = "letterbox"
    ) -> Placement:
        """Return the largest placement of a `picture` at the top left of `size`, without a crop.
        Both are (H, W) in pixels.

        resize  letterbox: the picture keeps its ratio of sides; what is left over is padding.
                stretch: the picture fills the input.
        """
        scale_y, scale_x = (full / side for full, side in zip(size, picture, strict=True))
        if resize == "letterbox":
            scale_y = scale_x = min(scale_x, scale_y)
        return Placement(scale_x, scale_y)

    def scaled(self, width: int, height: int) -> tuple[int, int]:
        """Return (width, height) in pixels that a picture of these sides has in the input."""
        return max(1, round(width * self.scale_x)), max(1, round(height * self.scale_y))

    def paste(
        self,
        image: Image.Image,
        size: tuple[int, int],
        fill: tuple[int, ...],
        resampling: Image.Resampling = Image.Resampling.BILINEAR,
    ) -> Image.Image:
        """Return `image` on a canvas of `size` (H, W), which has the colour `fill` elsewhere.
        resampling: Pillow's, where the picture changes its size."""
        height, width = size
        scaled = self.scaled(image.width, image.height)
        if scaled == image.size == (width, height):
            return image
        # Resize only the part that is seen: a crop at twice the size would else cost four times.
        left, top = max(0, -self.x), max(0, -self.y)
        right, bottom = min(scaled[0], width - self.x), min(scaled[1], height - self.y)
        per_x, per_y = image.width / scaled[0], image.height / scaled[1]
        visible = image.resize(
            (right - left, bottom - top),
            resampling,
            box=(left * per_x, top * per_y, right * per_x, bottom * per_y),
        )
        canvas = Image.new(image.mode, (width, height), fill)
        canvas.paste(visible, (self.x + left, self.y + top))
        return canvas

    def meta(self, image: Image.Image) -> dict[str, Any]:
        """Return what `restore_boxes` and `restore_mask` need: the placement and the size of
        `image`."""
        return {**self._asdict(), "width": image.width, "height": image.height}


def restore_boxes(meta: Mapping[str, Any], boxes: np.ndarray) -> np.ndarray:
    """Map boxes from the model's input to the picture.

    meta   what `Placement.meta` gave; with a true `flipped`, the picture is the one before a
           left-right flip.
    boxes  (K, 4) xyxy in pixels of the input.

    Returns (K, 4) xyxy in pixels of the picture, clipped to it.
    """
    offset = np.array([meta["x"], meta["y"]] * 2, np.float64)
    scale = np.array([meta["scale_x"], meta["scale_y"]] * 2, np.float64)
    limit = np.array([meta["width"], meta["height"]] * 2, np.float64)
    restored: np.ndarray = np.clip((boxes - offset) / scale, 0, limit)
    if meta.get("flipped"):
        restored[:, [0, 2]] = meta["width"] - restored[:, [2, 0]]
    return restored


def restore_mask(meta: Mapping[str, Any], mask: np.ndarray) -> np.ndarray:
    """Map a mask from the model's input to the picture.

    meta  what `Placement.meta` gave.
    mask  (H, W) uint8 of the input.

    Returns (height, width) uint8 of the picture.
    """
    at = Placement(meta["scale_x"], meta["scale_y"], meta["x"], meta["y"])
    size = meta["width"], meta["height"]
    right, bottom = (a + side for a, side in zip((at.x, at.y), at.scaled(*size), strict=True))
    visible = Image.fromarray(mask).crop((at.x, at.y, right, bottom))
    return np.asarray(visible.resize(size, Image.Resampling.NEAREST))
