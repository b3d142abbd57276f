"""Xception, Chollet 2016, arXiv:1610.02357, figure 5: separable convolutions whose depthwise and
pointwise parts have no batch norm in between."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import nn

from tests.zoo.blocks import repeats, scaled
from tests.zoo.zoo import PYTORCHCV, Net, Published


class Separable(nn.Module):
    def __init__(self, cin: int, cout: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(cin, cin, 3, padding=1, groups=cin, bias=False)
        self.pointwise = nn.Conv2d(cin, cout, 1, bias=False)
        self.bn = nn.BatchNorm2d(cout)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.bn(self.pointwise(self.depthwise(x)))


class Block(nn.Module):
    """relu-separable between the channels given, a max pool for the stride, a shortcut."""

    def __init__(self, *channels: int, stride: int = 1, relu_first: bool = True) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for i, (cin, cout) in enumerate(pairwise(channels)):
            if i > 0 or relu_first:
                layers.append(nn.ReLU(inplace=False))
            layers.append(Separable(cin, cout))
        if stride != 1:
            layers.append(nn.MaxPool2d(3, stride, 1))
        self.rep = nn.Sequential(*layers)
        self.skip = None
        if stride != 1 or channels[0] != channels[-1]:
            self.skip = nn.Conv2d(channels[0], channels[-1], 1, stride, bias=False)
            self.skip_bn = nn.BatchNorm2d(channels[-1])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shortcut = x if self.skip is None else self.skip_bn(self.skip(x))
        return self.rep(x) + shortcut


class Xception(nn.Module):
    def __init__(self, width: float = 1.0, depth: float = 1.0, classes: int = 1000) -> None:
        super().__init__()
        c32, c64, c128, c256, c728, c1024, c1536, c2048 = (
            scaled(c, width) for c in (32, 64, 128, 256, 728, 1024, 1536, 2048)
        )
        self.conv1, self.bn1 = nn.Conv2d(3, c32, 3, 2, bias=False), nn.BatchNorm2d(c32)
        self.conv2, self.bn2 = nn.Conv2d(c32, c64, 3, bias=False), nn.BatchNorm2d(c64)
        self.blocks = nn.Sequential(
            Block(c64, c128, c128, stride=2, relu_first=False),
            Block(c128, c256, c256, stride=2),
            Block(c256, c728, c728, stride=2),
            *(Block(c728, c728, c728, c728) for _ in range(repeats(8, depth))),
            Block(c728, c728, c1024, stride=2),
        )
        self.conv3, self.conv4 = Separable(c1024, c1536), Separable(c1536, c2048)
        self.fc = nn.Linear(c2048, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu_(self.bn1(self.conv1(x)))
        x = F.relu_(self.bn2(self.conv2(x)))
        x = self.blocks(x)
        x = F.relu(self.conv4(F.relu(self.conv3(x))))
        return self.fc(F.adaptive_avg_pool2d(x, (1, 1)).view(x.size(0), -1))


NETS = (
    Net(
        "xception",
        Xception,
        public={},
        tiny={"width": 0.125, "depth": 0.1, "classes": 10},
        tiny_size=(64, 64),
        published=Published(22_855_952, None, (299, 299), PYTORCHCV),
    ),
)
