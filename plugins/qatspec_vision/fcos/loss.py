"""The three losses of FCOS. Each returns a sum; the model divides by the number of positives."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from qatspec_vision.detect.boxes import iou_and_giou


class FocalLoss(nn.Module):
    """Sigmoid focal loss (Lin et al., ICCV 2017): logits and one-hot targets of the same shape."""

    def __init__(self, alpha: float, gamma: float) -> None:
        super().__init__()
        self.alpha = alpha
        self.gamma = gamma

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        entropy = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
        error = (torch.sigmoid(logits) - targets).abs()
        alpha = self.alpha * targets + (1 - self.alpha) * (1 - targets)
        return (alpha * error**self.gamma * entropy).sum()


class GIoULoss(nn.Module):
    """weight * (1 - GIoU) (Rezatofighi et al., CVPR 2019): boxes (P, 4), (P, 4), weight (P,)."""

    def forward(self, boxes: Tensor, targets: Tensor, weight: Tensor) -> Tensor:
        _, giou = iou_and_giou(boxes, targets)
        return ((1 - giou) * weight).sum()


class CenternessLoss(nn.Module):
    """Binary cross-entropy of logits (P,) against centerness (P,) in 0..1."""

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(logits, targets, reduction="sum")
