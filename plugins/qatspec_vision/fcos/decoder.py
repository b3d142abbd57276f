"""FCOS's scores and boxes, after the chip."""

from __future__ import annotations

from torch import Tensor

from qatspec_vision.detect.decoder import Decoder
from qatspec_vision.detect.points import Points
from qatspec_vision.fcos.distances import boxes_of_distances


class FCOSDecoder(Decoder):
    """score = sqrt(class * centerness). Candidates are those whose class alone scores above
    `score_threshold`."""

    to_boxes = staticmethod(boxes_of_distances)

    def scores(self, points: Points) -> Tensor:
        classes = points.logits.sigmoid()
        scores = (classes * points.quality.sigmoid()[..., None]).sqrt()
        return scores * (classes > self.score_threshold)
