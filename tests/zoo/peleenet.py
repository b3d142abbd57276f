"""PeleeNet, Wang et al. 2018, arXiv:1804.06882, table 1: two-way dense layers."""

from __future__ import annotations

import torch
from torch import nn

from tests.zoo.blocks import conv_bn, repeats, scaled
from tests.zoo.zoo import PYTORCHCV, Net, Published


class Stem(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = conv_bn(3, channels, 3, 2)
        self.left = nn.Sequential(
            conv_bn(channels, channels // 2), conv_bn(channels // 2, channels, 3, 2)
        )  # fmt: skip
        self.pool = nn.MaxPool2d(2)
        self.fuse = conv_bn(2 * channels, channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv(x)
        return self.fuse(torch.cat((self.left(x), self.pool(x)), dim=1))


class TwoWay(nn.Module):
    """A 3x3 convolution on one way, two of them on the other; both join the input."""

    def __init__(self, cin: int, growth: int, bottleneck: int) -> None:
        super().__init__()
        half = growth // 2
        inner = half * bottleneck // 4 * 4
        if inner > cin / 2:
            inner = cin // 8 * 4
        self.near = nn.Sequential(conv_bn(cin, inner), conv_bn(inner, half, 3))
        self.far = nn.Sequential(
            conv_bn(cin, inner), conv_bn(inner, half, 3), conv_bn(half, half, 3)
        )  # fmt: skip

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([x, self.near(x), self.far(x)], dim=1)


class PeleeNet(nn.Module):
    def __init__(self, width: float = 1.0, depth: float = 1.0, classes: int = 1000) -> None:
        super().__init__()
        growth = cin = scaled(32, width)
        self.features = nn.Sequential(Stem(cin))
        for i, (layers, bottleneck) in enumerate(((3, 1), (4, 2), (8, 4), (6, 4))):
            for _ in range(repeats(layers, depth)):
                self.features.append(TwoWay(cin, growth, bottleneck))
                cin += growth
            self.features.append(conv_bn(cin, cin))
            if i < 3:
                self.features.append(nn.AvgPool2d(kernel_size=2, stride=2))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(cin, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(torch.flatten(self.pool(self.features(x)), start_dim=1))


NETS = (
    Net(
        "peleenet",
        PeleeNet,
        public={},
        tiny={"width": 0.5, "depth": 0.3, "classes": 10},
        tiny_size=(32, 32),
        published=Published(
            2_802_248, 508_000_000, (224, 224), f"{PYTORCHCV}; MACs: the paper, 508 M"
        ),
    ),
)
