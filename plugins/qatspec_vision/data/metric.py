"""COCO's average precision, by pycocotools."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping, Sequence
from typing import Any

from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

#: Our names of the first nine of COCOeval's twelve statistics, and their places.
STATISTICS = {"AP": 0, "AP50": 1, "AP75": 2, "AP_small": 3, "AP_medium": 4, "AP_large": 5, "AR": 8}


def average_precision(
    truth: Mapping[str, Any], detections: Sequence[Mapping[str, Any]], image_ids: Sequence[int]
) -> dict[str, float]:
    """AP, AP50, AP75, AP_small, AP_medium, AP_large and AR (at 100 detections), 0-100.

    truth       COCO's annotation mapping, every annotation with id, area and iscrowd.
    detections  {image_id, category_id, bbox (x, y, w, h), score} each, in the pictures' pixels.
    image_ids   the images that count; the rest of truth is left out.

    A statistic that no object decides (no large object in the set) is absent; but AP and AP50,
    which choose checkpoints, are 0 where there is no object at all.
    """
    found = [
        {**d, "id": index, "area": d["bbox"][2] * d["bbox"][3], "iscrowd": 0}
        for index, d in enumerate(detections, start=1)
    ]
    # pycocotools talks on stdout.
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = COCOeval(_index(truth), _index({**truth, "annotations": found}), "bbox")
        evaluation.params.imgIds = sorted(image_ids)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    values = {name: float(evaluation.stats[place]) for name, place in STATISTICS.items()}
    return {
        name: 100 * max(value, 0.0)
        for name, value in values.items()
        if value >= 0 or name in ("AP", "AP50")
    }


def _index(content: Mapping[str, Any]) -> Any:
    coco = COCO()
    coco.dataset = dict(content)
    coco.createIndex()
    return coco
