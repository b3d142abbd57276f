"""Raw head outputs to boxes: what runs after the chip."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from qatspec_vision.detect.boxes import nms
from qatspec_vision.detect.points import Outputs, Points, ToBoxes, gather_points


class Decoder(nn.Module):
    """Of each map the `nms_pre` best candidates, suppression within each class, the
    `max_detections` best of the image.

    A subclass defines the scores, and `to_boxes`, which turns four numbers of a point into a box.

    forward: the head's three lists -> one {boxes (K, 4) xyxy in input pixels, scores (K,),
    labels (K,) int64} an image, best first. Boxes are clipped to the image.
    """

    to_boxes: ToBoxes

    def __init__(
        self,
        strides: Sequence[int],
        score_threshold: float,
        nms_pre: int,
        iou_threshold: float,
        max_detections: int,
    ) -> None:
        super().__init__()
        self.strides = tuple(strides)
        self.score_threshold = score_threshold
        self.nms_pre = nms_pre
        self.iou_threshold = iou_threshold
        self.max_detections = max_detections

    def scores(self, points: Points) -> Tensor:
        """Return the scores (N, A, C) of all points, zero for what is no candidate."""
        raise NotImplementedError

    @torch.no_grad()
    def forward(self, outputs: Outputs) -> list[dict[str, Tensor]]:
        maps = outputs[0]
        points = gather_points(outputs, self.strides, self.to_boxes)
        height, width = (side * self.strides[0] for side in maps[0].shape[-2:])
        limit = points.boxes.new_tensor([width, height, width, height])
        boxes = points.boxes.clamp(min=0).minimum(limit)
        cells = [m.shape[-2] * m.shape[-1] for m in maps]
        return [
            self._best_of_image(s, b, cells)
            for s, b in zip(self.scores(points), boxes, strict=True)
        ]

    def numbers(self, outputs: Outputs) -> int:
        """Return how many numbers are read or made for one image at most: each output once and what
        follows from it once, candidates in their order, and in suppression every candidate beside
        every box that is kept."""
        classes, raw, _ = outputs
        cells = [m.shape[-2] * m.shape[-1] for m in classes]
        depth, sides = classes[0].shape[1], raw[0].shape[1]
        candidates = sum(min(self.nms_pre, n * depth) for n in cells)
        once = 2 * sum(cells) * (depth + sides + 1)
        pair = sides + 1  # a box and how far it overlaps
        return once + candidates * pair + min(self.max_detections, candidates) * candidates * pair

    def _best_of_image(self, scores: Tensor, boxes: Tensor, cells: list[int]) -> dict[str, Tensor]:
        """scores (A, C), zero where too low, boxes (A, 4), number of cells of each map -> one
        prediction."""
        best_of = []
        for s, b in zip(torch.split(scores, cells), torch.split(boxes, cells), strict=True):
            flat = s.flatten()
            best = flat.nonzero().squeeze(1)
            best = best[flat[best].topk(min(self.nms_pre, len(best))).indices]
            best_of.append((flat[best], b[best // s.shape[1]], best % s.shape[1]))
        score, box, label = (torch.cat(part) for part in zip(*best_of, strict=True))

        order = score.argsort(descending=True, stable=True)
        score, box, label = score[order], box[order], label[order]
        keep = nms(box, label, self.iou_threshold, self.max_detections)
        return {"boxes": box[keep], "scores": score[keep], "labels": label[keep]}
