"""COCO's average precision, by hotcoco or pycocotools, whose results are the same to the last bit
(ADR 0133)."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

#: A statistic, the area range that it is about, and the threshold of the IoU; None: their mean.
PRECISIONS = {
    "AP": ("all", None),
    "AP50": ("all", 0.5),
    "AP75": ("all", 0.75),
    "AP_small": ("small", None),
    "AP_medium": ("medium", None),
    "AP_large": ("large", None),
}
#: Detections of a class in a picture that count.
MOST = 100


def _evaluator() -> tuple[Any, Any]:
    """COCO and COCOeval of hotcoco, which takes a thirtieth of the time, else of pycocotools."""
    try:
        from hotcoco import COCO, COCOeval
    except ImportError:
        from pycocotools import coco, cocoeval

        return coco.COCO, cocoeval.COCOeval
    return COCO, COCOeval


COCO, COCOeval = _evaluator()


class Objects(NamedTuple):
    """True objects.

    image  (m,) int64 places of the pictures.
    label  (m,) int64
    box    (m, 4) float64 x, y, width, height in the picture's pixels.
    area   (m,) float64 in pixels.
    crowd  (m,) bool: finding it is neither right nor wrong.
    """

    image: np.ndarray
    label: np.ndarray
    box: np.ndarray
    area: np.ndarray
    crowd: np.ndarray


class Detections(NamedTuple):
    """Detections: image (n,), label (n,) and box (n, 4) as in Objects, score (n,) float64."""

    image: np.ndarray
    label: np.ndarray
    box: np.ndarray
    score: np.ndarray


def average_precision(true: Objects, detections: Detections, classes: int) -> dict[str, float]:
    """AP, AP50, AP75, AP_small, AP_medium, AP_large and AR (at 100 detections), 0-100.

    A statistic that no object decides (no large object in the set) is absent; but AP and AP50,
    which choose checkpoints, are 0 where there is no object at all.
    """
    precision, recall, coco = _curves(true, detections, classes)
    areas = list(coco.areaRngLbl)
    values = {"AR": recall[..., areas.index("all")]}
    for name, (area, threshold) in PRECISIONS.items():
        part = precision[..., areas.index(area)]
        values[name] = part if threshold is None else part[np.asarray(coco.iouThrs) == threshold]
    decided = {name: part[part > -1] for name, part in values.items()}
    return {
        name: 100 * float(decided[name].mean()) if len(decided[name]) else 0.0
        for name in (*PRECISIONS, "AR")
        if len(decided[name]) or name in ("AP", "AP50")
    }


def by_class(true: Objects, detections: Detections, classes: Sequence[str]) -> dict[str, Any]:
    """AP and AP50 (0-100) of each class that has an object, and [(recall, precision), ...] at IoU
    0.5."""
    precision, _, coco = _curves(true, detections, len(classes))
    part = precision[..., list(coco.areaRngLbl).index("all")]
    at_half = part[np.asarray(coco.iouThrs) == PRECISIONS["AP50"][1]][0]
    decided = [(i, name) for i, name in enumerate(classes) if at_half[0, i] > -1]
    curves = {
        name: [
            (round(float(r), 4), round(float(p), 4))
            for r, p in zip(coco.recThrs, at_half[:, i], strict=True)
        ]
        for i, name in decided
    }
    metrics = {
        name: {"AP": 100 * float(part[:, :, i].mean()), "AP50": 100 * float(at_half[:, i].mean())}
        for i, name in decided
    }
    return {"classes": metrics, "curves": curves}


def _curves(
    true: Objects, detected: Detections, classes: int
) -> tuple[np.ndarray, np.ndarray, Any]:
    """Precision (thresholds, recalls, classes, area ranges), recall (thresholds, classes, area
    ranges), -1 where no object of the class is in the range, and the parameters of both."""
    pictures = int(max(true.image.max(initial=0), detected.image.max(initial=0))) + 1
    areas = detected.box[:, 2] * detected.box[:, 3]
    # What is no number comes last, as pycocotools sorts it.
    scores = np.where(np.isnan(detected.score), -np.inf, detected.score)
    sets = (
        _indexed(pictures, classes, true[:3], area=true.area, iscrowd=true.crowd.astype(np.int64)),
        _indexed(
            pictures, classes, detected[:3], area=areas, score=scores,
            iscrowd=np.zeros(len(areas), np.int64),
        ),
    )  # fmt: skip
    with contextlib.redirect_stdout(io.StringIO()):  # they print what they do
        evaluation = COCOeval(*(_opened(dataset) for dataset in sets), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
    coco = evaluation.params
    most = list(coco.maxDets).index(MOST)
    precision, recall = (np.asarray(evaluation.eval[key]) for key in ("precision", "recall"))
    return precision[..., most], recall[..., most], coco


def _indexed(
    pictures: int, classes: int, places: Sequence[np.ndarray], **columns: np.ndarray
) -> dict[str, Any]:
    """A set in COCO's layout. places: the pictures, labels and boxes of its annotations."""
    image, label, box = places
    named = {"image_id": image, "category_id": label, "bbox": box, **columns}
    rows = zip(*(column.tolist() for column in named.values()), strict=True)
    return {
        "info": {},
        "images": [{"id": picture} for picture in range(pictures)],
        "categories": [{"id": number, "name": str(number)} for number in range(classes)],
        "annotations": [
            {"id": n, **dict(zip(named, row, strict=True))} for n, row in enumerate(rows, start=1)
        ],
    }


def _opened(dataset: dict[str, Any]) -> Any:
    coco = COCO()
    coco.dataset = dataset
    coco.createIndex()
    return coco
