"""Which points learn which box in FCOS."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from qatspec_vision.detect.assignment import DynamicTarget, of_labels


class DynamicFcosTarget(DynamicTarget):
    """cost(box, point) = focal loss of the box's class + giou_weight * (1 - GIoU). Only points
    inside a box are taken, as distances cannot be negative."""

    def __init__(self, topk: int, giou_weight: float, center_radius: float) -> None:
        super().__init__(topk, center_radius)
        self.giou_weight = giou_weight

    def allowed(self, inside: Tensor, central: Tensor) -> Tensor:
        return inside

    def cost(
        self, logits: Tensor, quality: Tensor, labels: Tensor, iou: Tensor, giou: Tensor
    ) -> Tensor:
        focal = 0.25 * F.softplus(-logits) * torch.sigmoid(-logits) ** 2
        return of_labels(focal, labels) + self.giou_weight * (1 - giou)
