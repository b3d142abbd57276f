"""CSPDarknet: the backbone of YOLOv4 and its successors, in the proportions of YOLOX (Ge et al.,
2021), from the blocks of CSPNet (Wang et al., CVPR workshops 2020)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from qatspec_vision.blocks import scale_channels
from qatspec_vision.layers import ConvBn, initialize

#: Channels of the stem, and the most of a stage, before width scaling.
STEM, MOST = 64, 1024
#: Bottlenecks in the first stage and in the last, and in those between, before depth scaling.
REPEATS, REPEATS_BETWEEN = 3, 9


def channels_at(stride: int, width: float) -> int:
    """Channels of the stage of this stride: 128 at stride 4, twice as many at each next one."""
    return scale_channels(min(32 * stride, MOST), width)


def repeats_at(count: int, depth: float) -> int:
    """Number of bottlenecks after depth scaling, at least one."""
    return max(round(count * depth), 1)


class Bottleneck(nn.Module):
    """1x1, 3x3, and a sum with the input where `residual`. Keeps (N, channels, H, W)."""

    def __init__(self, channels: int, residual: bool, activation: str) -> None:
        super().__init__()
        self.reduce = ConvBn(channels, channels, 1, activation=activation)
        self.conv = ConvBn(channels, channels, 3, activation=activation)
        self.residual = residual

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(self.reduce(x))
        return x + y if self.residual else y


class CSPLayer(nn.Module):
    """Half of the channels goes through `repeats` bottlenecks, the other half past them.

    (N, inputs, H, W) -> (N, outputs, H, W)."""

    def __init__(
        self, inputs: int, outputs: int, repeats: int, residual: bool, activation: str
    ) -> None:
        super().__init__()
        hidden = outputs // 2
        self.enter = ConvBn(inputs, hidden, 1, activation=activation)
        self.past = ConvBn(inputs, hidden, 1, activation=activation)
        self.blocks = nn.Sequential(
            *(Bottleneck(hidden, residual, activation) for _ in range(repeats))
        )
        self.leave = ConvBn(2 * hidden, outputs, 1, activation=activation)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.leave(torch.cat([self.blocks(self.enter(x)), self.past(x)], dim=1))
        return y


class SPPF(nn.Module):
    """Spatial pyramid pooling (He et al., TPAMI 2015) by a chain of 5x5 max pools, whose second and
    third result are pools of 9x9 and 13x13. Keeps (N, channels, H, W)."""

    def __init__(self, channels: int, activation: str) -> None:
        super().__init__()
        hidden = channels // 2
        self.enter = ConvBn(channels, hidden, 1, activation=activation)
        self.pool = nn.MaxPool2d(5, stride=1, padding=2)
        self.leave = ConvBn(4 * hidden, channels, 1, activation=activation)

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x)
        near = self.pool(x)
        far = self.pool(near)
        y: Tensor = self.leave(torch.cat([x, near, far, self.pool(far)], dim=1))
        return y


class CSPDarknet(nn.Module):
    """A stem of stride 2, then a stage of a strided convolution and a CSPLayer for each stride.

    strides  of the maps that are returned: powers of two from 4 on, ascending. The last stage is
             that of the last one; SPPF is part of it.

    forward: (N, in_channels, H, W) -> list of (N, channels[i], H / strides[i], W / strides[i]).
    """

    def __init__(
        self, in_channels: int, width: float, depth: float, strides: Sequence[int], activation: str
    ) -> None:
        super().__init__()
        reached = [2**power for power in range(2, strides[-1].bit_length())]
        inputs = scale_channels(STEM, width)
        self.stem = ConvBn(in_channels, inputs, 3, stride=2, activation=activation)
        stages = []
        for stride in reached:
            outputs, last = channels_at(stride, width), stride == reached[-1]
            repeats = REPEATS if last or stride == reached[0] else REPEATS_BETWEEN
            stages.append(
                nn.Sequential(
                    ConvBn(inputs, outputs, 3, stride=2, activation=activation),
                    *([SPPF(outputs, activation)] if last else []),
                    CSPLayer(outputs, outputs, repeats_at(repeats, depth), not last, activation),
                )
            )
            inputs = outputs
        self.stages = nn.ModuleList(stages)
        self.returned = tuple(reached.index(stride) for stride in strides)
        self.channels = [channels_at(stride, width) for stride in strides]
        initialize(self)

    def forward(self, images: Tensor) -> list[Tensor]:
        x, maps = self.stem(images), []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return [maps[index] for index in self.returned]
