"""Feature maps of a ResNet, for the nets that build on them."""

from __future__ import annotations

import torch
from torch import nn

from tests.zoo.resnet import Basic, Bottleneck, ResNet


class ResNetFeatures(nn.Module):
    """The outputs of a ResNet's four stages, strides 4, 8, 16 and 32.

    dilated: so many of the last stages keep their input's size, with dilated convolutions instead.
    channels: of the four outputs.
    """

    def __init__(
        self,
        layers: int = 50,
        width: float = 1.0,
        depth: float = 1.0,
        dilated: int = 0,
    ) -> None:
        super().__init__()
        if layers == 50:
            net = ResNet(Bottleneck, (3, 4, 6, 3), width=width, depth=depth)
        else:
            net = ResNet(Basic, (2, 2, 2, 2), width=width, depth=depth)
        self.stem, self.maxpool, self.stages = net.stem, net.maxpool, net.stages
        for i in range(dilated):
            _dilate(net.stages[4 - dilated + i], 2 << i)
        last = net.fc.in_features
        self.channels = [last // 8, last // 4, last // 2, last]

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        x = self.maxpool(self.stem(x))
        found = []
        for stage in self.stages:
            x = stage(x)
            found.append(x)
        return found


def _dilate(stage: nn.Module, rate: int) -> None:
    for conv in stage.modules():
        if isinstance(conv, nn.Conv2d):
            conv.stride = (1, 1)
            if conv.kernel_size == (3, 3):
                conv.dilation = conv.padding = (rate, rate)
                conv._reversed_padding_repeated_twice = [rate] * 4
