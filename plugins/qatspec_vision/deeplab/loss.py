"""The loss of a segmentation map."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


class SegmentationLoss(nn.Module):
    """Cross-entropy per pixel at the labels' resolution.

    forward: logits (N, C, h, w), enlarged bilinearly, and labels (N, H, W) int64, of which those
    equal to `ignore_index` do not count -> the mean over the pixels that count, 0 where none does.
    """

    def __init__(self, ignore_index: int) -> None:
        super().__init__()
        self.ignore_index = ignore_index

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        enlarged = F.interpolate(logits, size=labels.shape[-2:], mode="bilinear")
        total = F.cross_entropy(enlarged, labels, ignore_index=self.ignore_index, reduction="sum")
        return total / (labels != self.ignore_index).sum().clamp(min=1)
