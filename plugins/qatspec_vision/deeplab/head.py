"""The heads: one that ships, and small ones that only help the backbone to learn."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from qatspec_vision.deeplab.aspp import ASPP
from qatspec_vision.layers import ConvBn, SeparableConvBn, initialize


class DecodeHead(nn.Module):
    """ASPP on the coarse map, enlarged and added to the fine one.

    in_channels  of the fine and of the coarse map.
    enlarge      how many times coarser the coarse map is.

    forward: (fine (N, F, H, W), coarse (N, C, H / enlarge, W / enlarge)) -> logits
    (N, num_classes, H, W), the last convolution's raw output, whose int32 sums leave the chip
    unrounded.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: tuple[int, int],
        enlarge: int,
        channels: int,
        dilations: Sequence[int],
        repeats: Sequence[int],
        dropout: float,
    ) -> None:
        super().__init__()
        fine, coarse = in_channels
        self.aspp = ASPP(coarse, channels, dilations, repeats)
        self.enlarge = nn.Upsample(scale_factor=enlarge, mode="bilinear")
        self.detail = ConvBn(fine, channels, activation="relu")
        self.fuse = SeparableConvBn(channels, channels)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Conv2d(channels, num_classes, 1)
        initialize(self)
        nn.init.normal_(self.classifier.weight, std=0.01)

    def forward(self, fine: Tensor, coarse: Tensor) -> Tensor:
        x = self.detail(fine) + self.enlarge(self.aspp(coarse))
        logits: Tensor = self.classifier(self.dropout(self.fuse(x)))
        return logits


class AuxiliaryHead(nn.Sequential):
    """A fully convolutional head (Long et al., CVPR 2015) on one backbone map, for training only.
    (N, inputs, H, W) -> logits (N, num_classes, H, W)."""

    def __init__(self, num_classes: int, inputs: int, channels: int, dropout: float) -> None:
        super().__init__(
            ConvBn(inputs, channels, 3, activation="relu"),
            nn.Dropout(dropout),
            nn.Conv2d(channels, num_classes, 1),
        )
        initialize(self)
