"""The FCOS head: convolutions shared across strides, a BN of its own for each stride.

Maps of different strides have different statistics; sharing the weights but not the BN keeps both
the parameters few and the statistics right. A quantizer must therefore fold each call of a shared
convolution with the BN that follows *that* call.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor, nn

from qatspec_vision.layers import SeparableConv, initialize

#: FocalLoss starts from rare positives: sigmoid(bias) (Lin et al., ICCV 2017, section 4.1).
PRIOR = 0.01
#: First guess of the distance from a point to each side of its box, in strides.
FIRST_DISTANCE = 2.0


class Tower(nn.Module):
    """`convs` x (shared separable conv, the stride's BN, ReLU). (N, inputs, H, W) -> (N, channels,
    H, W)."""

    def __init__(self, inputs: int, channels: int, convs: int, levels: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            SeparableConv(channels if index else inputs, channels) for index in range(convs)
        )
        self.norms = nn.ModuleList(
            nn.ModuleList(nn.BatchNorm2d(channels) for _ in range(levels)) for _ in range(convs)
        )
        self.relu = nn.ReLU()

    def forward(self, x: Tensor, level: int) -> Tensor:
        for conv, norms in zip(self.convs, self.norms, strict=True):
            x = self.relu(norms[level](conv(x)))  # type: ignore[index]  # a ModuleList of BNs
        return x


class FCOSHead(nn.Module):
    """One tower for classes, one for boxes and centerness, and three plain 3x3 predictors.

    forward: list of `levels` maps (N, in_channels, H_i, W_i) -> three lists of `levels` maps, the
    convolutions' raw outputs:
      class logits (N, num_classes, H_i, W_i),
      distances to left, top, right, bottom (N, 4, H_i, W_i), in strides, before the ReLU,
      centerness logits (N, 1, H_i, W_i).
    ReLU, x stride and sigmoid live in the loss and the decoder, so that the chip's last ops are
    convolutions, whose int32 sums leave it unrounded.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        channels: int,
        convs: int,
        levels: int,
    ) -> None:
        super().__init__()
        self.cls_tower = Tower(in_channels, channels, convs, levels)
        self.reg_tower = Tower(in_channels, channels, convs, levels)
        features = channels if convs else in_channels
        self.conv_cls = nn.Conv2d(features, num_classes, 3, padding=1)
        self.conv_reg = nn.Conv2d(features, 4, 3, padding=1)
        self.conv_centerness = nn.Conv2d(features, 1, 3, padding=1)

        initialize(self)
        for predictor in (self.conv_cls, self.conv_reg, self.conv_centerness):
            nn.init.normal_(predictor.weight, std=0.01)
        nn.init.constant_(self.conv_cls.bias, -math.log((1 - PRIOR) / PRIOR))  # type: ignore[arg-type]
        nn.init.constant_(self.conv_reg.bias, FIRST_DISTANCE)  # type: ignore[arg-type]

    def forward(self, maps: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        classes, distances, centerness = [], [], []
        for level, x in enumerate(maps):
            cls_features = self.cls_tower(x, level)
            reg_features = self.reg_tower(x, level)
            classes.append(self.conv_cls(cls_features))
            distances.append(self.conv_reg(reg_features))
            centerness.append(self.conv_centerness(reg_features))
        return classes, distances, centerness
