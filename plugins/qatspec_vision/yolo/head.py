"""YOLOX's decoupled head: towers of their own for classes and boxes, at each stride."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor, nn

from qatspec_vision.layers import ConvBn, initialize

#: Objects are rare: sigmoid(bias) of classes and objectness (Lin et al., ICCV 2017, section 4.1).
PRIOR = 0.01


class LevelHead(nn.Module):
    """The head of one stride: (N, inputs, H, W) -> class logits (N, num_classes, H, W), boxes
    (N, 4, H, W) and objectness logits (N, 1, H, W)."""

    def __init__(
        self, inputs: int, num_classes: int, channels: int, convs: int, activation: str
    ) -> None:
        super().__init__()
        self.stem = ConvBn(inputs, channels, 1, activation=activation)
        self.cls_tower, self.reg_tower = (
            nn.Sequential(
                *(ConvBn(channels, channels, 3, activation=activation) for _ in range(convs))
            )
            for _ in range(2)
        )
        self.conv_cls = nn.Conv2d(channels, num_classes, 1)
        self.conv_reg = nn.Conv2d(channels, 4, 1)
        self.conv_objectness = nn.Conv2d(channels, 1, 1)

        initialize(self)
        for predictor in (self.conv_cls, self.conv_reg, self.conv_objectness):
            nn.init.normal_(predictor.weight, std=0.01)
        for predictor in (self.conv_cls, self.conv_objectness):
            nn.init.constant_(predictor.bias, -math.log((1 - PRIOR) / PRIOR))  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x = self.stem(x)
        cls_features, reg_features = self.cls_tower(x), self.reg_tower(x)
        return (
            self.conv_cls(cls_features),
            self.conv_reg(reg_features),
            self.conv_objectness(reg_features),
        )


class YOLOHead(nn.Module):
    """A LevelHead for each stride.

    forward: list of maps (N, in_channels[i], H_i, W_i) -> three lists of maps, the convolutions'
    raw outputs: class logits, boxes (see boxes_of_centers) and objectness logits. Decoding is part
    of the loss and of the decoder, so that the chip's last ops are convolutions, whose int32 sums
    leave it unrounded.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        num_classes: int,
        channels: int,
        convs: int,
        activation: str,
    ) -> None:
        super().__init__()
        self.levels = nn.ModuleList(
            LevelHead(inputs, num_classes, channels, convs, activation) for inputs in in_channels
        )

    def forward(self, maps: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        classes, boxes, objectness = [], [], []
        for level, x in zip(self.levels, maps, strict=True):
            cls, reg, obj = level(x)
            classes.append(cls)
            boxes.append(reg)
            objectness.append(obj)
        return classes, boxes, objectness
