"""COCO's average precision, to the last bit as pycocotools computes it (ADR 0041)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from pycocotools.cocoeval import Params

from qatspec_vision.data.matching import Boxes, match

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
    coco = Params("bbox")
    precision, recall = _curves(true, detections, classes, coco)
    values = {"AR": recall[..., coco.areaRngLbl.index("all")]}
    for name, (area, threshold) in PRECISIONS.items():
        part = precision[..., coco.areaRngLbl.index(area)]
        values[name] = part if threshold is None else part[coco.iouThrs == threshold]
    decided = {name: part[part > -1] for name, part in values.items()}
    return {
        name: 100 * float(decided[name].mean()) if len(decided[name]) else 0.0
        for name in (*PRECISIONS, "AR")
        if len(decided[name]) or name in ("AP", "AP50")
    }


def by_class(true: Objects, detections: Detections, classes: Sequence[str]) -> dict[str, Any]:
    """AP and AP50 (0-100) of each class that has an object, and [(recall, precision), ...] at IoU
    0.5."""
    coco = Params("bbox")
    precision, _ = _curves(true, detections, len(classes), coco)
    part = precision[..., coco.areaRngLbl.index("all")]
    at_half = part[coco.iouThrs == PRECISIONS["AP50"][1]][0]
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
    true: Objects, detected: Detections, classes: int, coco: Any
) -> tuple[np.ndarray, np.ndarray]:
    """Precision (thresholds, recalls, classes, area ranges) and recall (thresholds, classes, area
    ranges); -1 where no object of the class is in the range."""
    images = int(max(true.image.max(initial=0), detected.image.max(initial=0))) + 1
    objects, true = _grouped(true, true.label * images + true.image)
    detections, detected = _best(detected, detected.label * images + detected.image)

    ranges = np.array(coco.areaRng)
    ignored = _outside(true.area, ranges) | true.crowd
    matches = match(detections, objects, true.crowd, ignored, coco.iouThrs)
    # An unmatched detection outside of the range counts as little as an ignored object.
    outside = _outside(detected.box[:, 2] * detected.box[:, 3], ranges)[:, None]
    counted = ~np.where(matches.matched, matches.ignored, outside)

    shape = (len(coco.iouThrs), classes, len(ranges))
    precision = np.full((shape[0], len(coco.recThrs), *shape[1:]), -1.0)
    recall = np.full(shape, -1.0)
    for label in range(classes):
        first, end = np.searchsorted(detected.label, (label, label + 1))
        by_score = first + np.argsort(-detected.score[first:end], kind="stable")
        number = (~ignored[:, true.label == label]).sum(axis=1)
        for area in number.nonzero()[0]:
            right, counting = (part[area][:, by_score] for part in (matches.matched, counted))
            curve = _curve(right & counting, ~right & counting, number[area], coco.recThrs)
            precision[:, :, label, area], recall[:, label, area] = curve
    return precision, recall


def _grouped(true: Objects, groups: np.ndarray) -> tuple[Boxes, Objects]:
    """Sort the objects by their groups."""
    order = np.argsort(groups, kind="stable")
    true = Objects(*(part[order] for part in true))
    return Boxes(groups[order], true.box), true


def _best(detections: Detections, groups: np.ndarray) -> tuple[Boxes, Detections]:
    """Sort the detections by their groups, best first, and keep the MOST best of each; of equal
    scores, the first."""
    order = np.lexsort((-detections.score, groups))
    groups = groups[order]
    rank = np.arange(len(order)) - np.searchsorted(groups, groups)
    order, groups = order[rank < MOST], groups[rank < MOST]
    detections = Detections(*(part[order] for part in detections))
    return Boxes(groups, detections.box), detections


def _outside(area: np.ndarray, ranges: np.ndarray) -> np.ndarray:
    """Areas (n,), ranges (A, 2) -> (A, n)."""
    outside: np.ndarray = (area < ranges[:, :1]) | (area > ranges[:, 1:])
    return outside


def _curve(
    right: np.ndarray, wrong: np.ndarray, number: int, recalls: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """right and wrong (T, n) of detections by score, number of objects, recalls (R,) -> the highest
    precision at each of these recalls or a higher one (T, R), and the highest recall (T,)."""
    precision = np.zeros((len(right), len(recalls)))
    if not right.shape[1]:
        return precision, np.zeros(len(right))
    hits, misses = (part.cumsum(axis=1).astype(np.float64) for part in (right, wrong))
    reached = hits / number
    # pycocotools adds the spacing so as not to divide by zero; it changes 1 / 1 in the last bit.
    ratio = hits / (misses + hits + np.spacing(1))
    highest = np.maximum.accumulate(ratio[:, ::-1], axis=1)[:, ::-1]
    for row, curve, values in zip(precision, reached, highest, strict=True):
        places = np.searchsorted(curve, recalls)
        inside = places < len(curve)
        row[inside] = values[places[inside]]
    return precision, reached[:, -1]
