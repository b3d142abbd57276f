"""YOLO's scores and boxes, after the chip."""

from __future__ import annotations

from torch import Tensor

from qatspec_vision.detect.decoder import Decoder
from qatspec_vision.detect.points import Points
from qatspec_vision.yolo.centers import boxes_of_centers


class YOLODecoder(Decoder):
    """score = class * objectness. Candidates are those that score above `score_threshold`."""

    to_boxes = staticmethod(boxes_of_centers)

    def scores(self, points: Points) -> Tensor:
        scores = points.logits.sigmoid() * points.quality.sigmoid()[..., None]
        return scores * (scores > self.score_threshold)
