"""The losses of YOLO. Each returns a sum; the model divides by the number of positives."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from qatspec_vision.detect.boxes import ciou, iou_and_giou


class BoxLoss(nn.Module):
    """1 - GIoU or 1 - CIoU of boxes (P, 4) and targets (P, 4).

    form  "giou" (Rezatofighi et al., CVPR 2019) or "ciou" (Zheng et al., AAAI 2020).
    """

    def __init__(self, form: str) -> None:
        super().__init__()
        self.form = form

    def forward(self, boxes: Tensor, targets: Tensor) -> Tensor:
        overlap = ciou(boxes, targets) if self.form == "ciou" else iou_and_giou(boxes, targets)[1]
        return (1 - overlap).sum()

    def extra_repr(self) -> str:
        return self.form


class EntropyLoss(nn.Module):
    """Binary cross-entropy of logits against targets in 0..1, of the same shape."""

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(logits, targets, reduction="sum")
