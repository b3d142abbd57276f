"""Training pictures made of several: mosaic and mixup."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from qatspec.api import ModelInput, Placement
from qatspec_vision.data.augment import Boxes, place_boxes

#: Both parameters of the beta distribution that mixup's shares come from (Zhang et al., "Bag of
#: freebies for training object detection neural networks", 2019, section 3.1).
MIXUP_BETA = 1.5
#: The point where a mosaic's pictures meet lies in this range of each side.
MEETING = (0.25, 0.75)


class Scene(NamedTuple):
    """A picture with its boxes (M, 4) float32 xyxy in its pixels and their labels (M,) int64."""

    image: Image.Image
    boxes: Boxes
    labels: NDArray[np.int64]


def mosaic(
    scenes: Sequence[Scene], fed: ModelInput, scale: Sequence[float], rng: np.random.Generator
) -> Scene:
    """Four pictures on a canvas of the input's size, in reading order around a random point
    (Bochkovskiy et al., "YOLOv4", 2020). Each has a corner there, and a size of `scale` relative to
    fitting half of the canvas; what goes beyond the canvas or its quarter is cut off."""
    height, width = fed.size
    y, x = (round(side * float(rng.uniform(*MEETING))) for side in fed.size)
    canvas = Image.new("RGB", (width, height), fed.fill)
    boxes, labels = [], []
    for number, scene in enumerate(scenes):
        below, right = divmod(number, 2)
        quarter = (height - y if below else y, width - x if right else x)
        size = (scene.image.height, scene.image.width)
        fitted = Placement.fitted(size, (height // 2, width // 2), fed.resize)
        factor = float(rng.uniform(scale[0], scale[1]))
        scale_x, scale_y = fitted.scale_x * factor, fitted.scale_y * factor
        # In its quarter's own pixels: at the top left behind the point, at the far side before it.
        at = Placement(
            scale_x,
            scale_y,
            0 if right else quarter[1] - round(size[1] * scale_x),
            0 if below else quarter[0] - round(size[0] * scale_y),
        )
        corner = (x if right else 0, y if below else 0)
        canvas.paste(at.paste(scene.image, quarter, fed.fill), corner)
        placed, visible = place_boxes(scene.boxes, quarter, at)
        boxes.append((placed + np.array([*corner, *corner], np.float32))[visible])
        labels.append(scene.labels[visible])
    return Scene(canvas, np.concatenate(boxes), np.concatenate(labels))


def mixup(one: Scene, other: Scene, rng: np.random.Generator) -> Scene:
    """Two pictures of one size laid over each other; the boxes of both count in full (as in the
    paper named at MIXUP_BETA)."""
    share = float(rng.beta(MIXUP_BETA, MIXUP_BETA))
    return Scene(
        Image.blend(other.image, one.image, share),
        np.concatenate([one.boxes, other.boxes]),
        np.concatenate([one.labels, other.labels]),
    )
