"""Logits to labels: what runs after the chip."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class SegmentationDecoder(nn.Module):
    """Logits enlarged bilinearly, and the best class of each pixel.

    forward: (N, C, h, w) -> one {mask (h * stride, w * stride) uint8} a picture. uint8, so that
    the predictions of a whole set stay small (at most 256 classes)."""

    def __init__(self, stride: int = 8) -> None:
        super().__init__()
        self.stride = stride

    @torch.no_grad()
    def forward(self, logits: Tensor) -> list[dict[str, Tensor]]:
        predictions = []
        for one in logits:  # one by one: all classes at full size are large
            enlarged = F.interpolate(one[None], scale_factor=self.stride, mode="bilinear")
            predictions.append({"mask": enlarged[0].argmax(0).to(torch.uint8)})
        return predictions
