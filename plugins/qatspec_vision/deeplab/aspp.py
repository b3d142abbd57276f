"""Atrous spatial pyramid pooling (Chen et al., 2017): one map seen at several scales."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from qatspec_vision.layers import ConvBn, SeparableConvBn


class ASPP(nn.Module):
    """Branches side by side, and the mean of the whole picture, brought together by a 1x1 conv.

    dilations  one branch each: 1 is a 1x1 convolution, more is a separable 3x3 so far apart.
    repeats    convolutions in a row in each branch.

    forward: (N, inputs, H, W) -> (N, channels, H, W). In training a batch needs two pictures or
    more: the mean has one value a channel and picture, and batch norm needs two.
    """

    def __init__(
        self,
        inputs: int,
        channels: int,
        dilations: Sequence[int],
        repeats: Sequence[int],
    ) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            _branch(inputs, channels, dilation, count)
            for dilation, count in zip(dilations, repeats, strict=True)
        )
        self.picture = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), ConvBn(inputs, channels, activation="relu")
        )
        self.project = ConvBn(channels * (len(dilations) + 1), channels, activation="relu")

    def forward(self, x: Tensor) -> Tensor:
        branches = [branch(x) for branch in self.branches]
        mean = F.interpolate(self.picture(x), size=x.shape[-2:], mode="bilinear")
        out: Tensor = self.project(torch.cat([*branches, mean], dim=1))
        return out


def _branch(inputs: int, channels: int, dilation: int, count: int) -> nn.Sequential:
    widths = [inputs, *[channels] * count]
    return nn.Sequential(
        *(
            ConvBn(before, after, activation="relu")
            if dilation == 1
            else SeparableConvBn(before, after, dilation)
            for before, after in itertools.pairwise(widths)
        )
    )
