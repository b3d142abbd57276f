"""Predictions in float and in integers, drawn onto the picture that the model was given."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from qatspec.report.draw import draw_boxes, draw_classes, draw_mask
from qatspec.spec import InputSpec

Prediction = Mapping[str, np.ndarray]

#: Longer side of a picture on the page, in pixels, and the quality of its JPEG.
SIDE, _QUALITY = 360, 78
#: Least score of a box that is drawn and compared; least IoU of two boxes that are the same.
LEAST_SCORE, _LEAST_IOU = 0.3, 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A picture with both predictions.

    name        of the example. real, integer: pictures as data URIs.
    difference  of the predictions: 0 equal, 1 nothing in common.
    """

    name: str
    real: str
    integer: str
    difference: float


def difference(real: Prediction, integer: Prediction) -> float | None:
    """How much two predictions of one picture differ.

    Boxes: 1 - F1 of the boxes above LEAST_SCORE, which match where label and place agree (IoU 0.5,
    best first). Masks: the share of pixels with another label. Classes: 1 where the best class
    differs, else the largest difference of a score, at most 1.

    Returns a number from 0 to 1; None for predictions of another kind.
    """
    if {"boxes", "scores", "labels"} <= real.keys():
        return 1 - _agreement(_confident(real), _confident(integer))
    if "mask" in real:
        return float((real["mask"] != integer["mask"]).mean())
    if "label" in real:
        if int(real["label"]) != int(integer["label"]):
            return 1.0
        if "scores" in real:
            return float(min(1.0, np.abs(real["scores"] - integer["scores"]).max(initial=0)))
        return 0.0
    return None


def show(
    name: str,
    given: Any,
    image: np.ndarray,
    real: Prediction,
    integer: Prediction,
    classes: Sequence[str],
    distance: float,
) -> Shown:
    """Draw both predictions.

    given  how the input was made of a picture (InputSpec).
    image  float32 (C, H, W), the input; distance: what `difference` gave.
    """
    picture = picture_of(image, given)
    drawn = [_uri(_drawn(picture, one, classes)) for one in (real, integer)]
    return Shown(name=name, real=drawn[0], integer=drawn[1], difference=distance)


def picture_of(image: np.ndarray, given: Any) -> Image.Image:
    """The RGB picture that became the input `image`, float32 (C, H, W).

    given: an InputSpec, whose normalisation is undone; of another input, its first channel is
    stretched to black and white.
    """
    if not isinstance(given, InputSpec) or image.shape[0] not in (1, 3):
        plane = image[0].astype(np.float64)
        spread = float(np.ptp(plane)) or 1.0
        return Image.fromarray(((plane - plane.min()) / spread * 255).astype(np.uint8)).convert(
            "RGB"
        )
    mean, std = (np.asarray(value, np.float64).reshape(-1) for value in (given.mean, given.std))
    pixels = image.transpose(1, 2, 0) * std + mean
    levels = np.clip(np.rint(pixels), 0, 255).astype(np.uint8)
    if given.format == "bgr":
        levels = levels[..., ::-1]
    if levels.shape[-1] == 1:
        return Image.fromarray(levels[..., 0]).convert("RGB")
    mode = "YCbCr" if given.format == "yuv444" else "RGB"
    return Image.fromarray(np.ascontiguousarray(levels), mode).convert("RGB")


def _drawn(picture: Image.Image, prediction: Prediction, classes: Sequence[str]) -> Image.Image:
    factor = SIDE / max(picture.size)
    size = (max(1, round(picture.width * factor)), max(1, round(picture.height * factor)))
    smooth = Image.Resampling.NEAREST if factor > 4 else Image.Resampling.BILINEAR
    large = picture.resize(size, smooth)
    if "boxes" in prediction:
        boxes = {**prediction, "boxes": prediction["boxes"] * factor}
        return draw_boxes(large, boxes, classes, LEAST_SCORE)
    if "mask" in prediction:
        mask = Image.fromarray(prediction["mask"].astype(np.uint8))
        return draw_mask(large, np.asarray(mask.resize(size, Image.Resampling.NEAREST)), classes)
    label = int(prediction["label"])
    score = float(prediction["scores"][label]) if "scores" in prediction else 1.0
    named = classes[label] if label < len(classes) else label
    return draw_classes(large, [{"name": named, "score": score, "label": label}])


def _uri(picture: Image.Image) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=_QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


def _confident(prediction: Prediction) -> Prediction:
    """The boxes above LEAST_SCORE, best first."""
    kept = np.flatnonzero(prediction["scores"] >= LEAST_SCORE)
    order = kept[np.argsort(-prediction["scores"][kept], kind="stable")]
    return {name: prediction[name][order] for name in ("boxes", "scores", "labels")}


def _agreement(real: Prediction, integer: Prediction) -> float:
    """F1 of two sets of boxes; 1 where both are empty."""
    total = len(real["boxes"]) + len(integer["boxes"])
    if not total:
        return 1.0
    free = np.ones(len(integer["boxes"]), bool)
    matched = 0
    for box, label in zip(real["boxes"], real["labels"], strict=True):
        overlap = np.where(free & (integer["labels"] == label), _iou(box, integer["boxes"]), 0)
        if overlap.max(initial=0) >= _LEAST_IOU:
            free[overlap.argmax()] = False
            matched += 1
    return 2 * matched / total


def _iou(box: np.ndarray, others: np.ndarray) -> np.ndarray:
    """IoU of a box (4,) xyxy with others (K, 4)."""
    low, high = np.maximum(box[:2], others[:, :2]), np.minimum(box[2:], others[:, 2:])
    shared = np.clip(high - low, 0, None).prod(axis=1)
    areas = (others[:, 2:] - others[:, :2]).prod(axis=1) + (box[2:] - box[:2]).prod()
    ratio: np.ndarray = shared / np.maximum(areas - shared, np.finfo(np.float64).tiny)
    return ratio
