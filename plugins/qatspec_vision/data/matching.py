"""Which detections find which objects, by the rules of COCO's evaluation.

pycocotools goes through pictures, classes, area ranges, thresholds, detections and objects in
nested loops of Python. Here the detections of one rank in all groups with equally many objects are
matched at once, for all area ranges and thresholds. The results are the same, because they depend
on nothing but comparisons of the IoUs, which pycocotools computes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from pycocotools import mask


class Boxes(NamedTuple):
    """n boxes, sorted by group: the objects or the detections of one class in one picture.

    group  (n,) int64
    box    (n, 4) float64 x, y, width, height in pixels
    """

    group: np.ndarray
    box: np.ndarray


class Matches(NamedTuple):
    """For area ranges (A), thresholds (T) and detections (n), bool arrays (A, T, n).

    matched  the detection finds an object.
    ignored  that object does not count: a crowd, or one outside the area range.
    """

    matched: np.ndarray
    ignored: np.ndarray


class _Equal(NamedTuple):
    """P groups with G objects each, those with the most detections first.

    objects     (P, G) their places.
    counts      (P,) numbers of detections that overlap an object enough, descending.
    first       (P,) where they begin in `detections` and `iou`.
    detections  (D,) their places, best first within each group.
    iou         (D, G)
    """

    objects: np.ndarray
    counts: np.ndarray
    first: np.ndarray
    detections: np.ndarray
    iou: np.ndarray


def match(
    detections: Boxes, true: Boxes, crowd: np.ndarray, ignored: np.ndarray, thresholds: np.ndarray
) -> Matches:
    """Match detections with objects.

    detections  D detections, best first within each group.
    true        m objects.
    crowd       (m,) bool: many detections may match the object.
    ignored     (A, m) bool: the object does not count in this area range; crowds never do.
    thresholds  (T,) of the IoU, ascending.

    Each detection, best first, takes the object of the largest IoU above the threshold that no
    other has taken; one that counts before one that does not; of equal IoUs, the last.
    """
    limit = thresholds[:, None]
    shape = (len(ignored), len(thresholds), len(detections.group))
    matches = Matches(np.zeros(shape, bool), np.zeros(shape, bool))
    for groups in _equal_groups(detections, true, crowd, thresholds[0]):
        # axes: group, area range, threshold, object
        out = ignored.T[groups.objects].transpose(0, 2, 1)[:, :, None]
        many = crowd[groups.objects][:, None, None]
        taken = np.zeros((len(groups.objects), *shape[:2], groups.objects.shape[1]), bool)
        for rank in range(groups.counts[0]):
            active = int(np.searchsorted(-groups.counts, -rank, side="left"))
            rows = groups.first[:active] + rank
            iou = groups.iou[rows][:, None, None]
            fits = (iou >= limit) & (~taken[:active] | many[:active])
            counting = fits & ~out[:active]
            fits = np.where(counting.any(-1, keepdims=True), counting, fits)
            last = np.where(fits, iou, -1.0)[..., ::-1].argmax(-1)
            group, area, threshold = fits.any(-1).nonzero()
            chosen = fits.shape[-1] - 1 - last[group, area, threshold]
            taken[group, area, threshold, chosen] = True
            matching = groups.detections[rows][group]
            matches.matched[area, threshold, matching] = True
            matches.ignored[area, threshold, matching] = out[group, area, 0, chosen]
    return matches


def _equal_groups(
    detected: Boxes, true: Boxes, crowd: np.ndarray, least: float
) -> Iterator[_Equal]:
    """Groups with detections whose IoU with an object is at least `least`, by their number of
    objects."""
    rows: dict[int, list[tuple[np.ndarray, np.ndarray, np.ndarray]]] = {}
    groups = np.intersect1d(detected.group, true.group)
    ends = (np.searchsorted(boxes.group, groups, side) for boxes in (detected, true)
            for side in ("left", "right"))  # fmt: skip
    for d, d_end, t, t_end in zip(*(end.tolist() for end in ends), strict=True):
        iou = mask.iou(detected.box[d:d_end], true.box[t:t_end], crowd[t:t_end])
        near = (iou >= least).any(axis=1).nonzero()[0]
        if len(near):
            row = (np.arange(t, t_end), d + near, iou[near])
            rows.setdefault(t_end - t, []).append(row)
    for equal in rows.values():
        equal.sort(key=lambda row: -len(row[1]))
        objects, detections, ious = zip(*equal, strict=True)
        counts = np.array([len(places) for places in detections])
        first = np.cumsum(counts) - counts
        yield _Equal(
            np.stack(objects), counts, first, np.concatenate(detections), np.concatenate(ious)
        )
