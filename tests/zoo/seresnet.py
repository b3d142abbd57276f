"""SE-ResNet-50, Hu et al. 2017, arXiv:1709.01507, table 1: bottlenecks stride in their first
convolution, as the authors' Caffe model does."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from tests.zoo.blocks import conv_bn, repeats, scaled
from tests.zoo.zoo import PYTORCHCV, Net, Published


class SqueezeExcitation(nn.Module):
    """A gate per channel from the map's average, by two fully connected layers."""

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels, max(channels // reduction, 4))
        self.fc2 = nn.Linear(max(channels // reduction, 4), channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        gate = torch.mean(x, dim=[2, 3])
        gate = self.fc2(self.fc1(gate).relu()).sigmoid()
        return torch.mul(x, gate.unsqueeze(-1).unsqueeze(-1))


class Block(nn.Module):
    """A bottleneck whose result is gated before the sum."""

    def __init__(self, cin: int, planes: int, stride: int, change: bool) -> None:
        super().__init__()
        cout = 4 * planes
        self.conv1 = conv_bn(cin, planes, 1, stride)
        self.conv2 = conv_bn(planes, planes, 3)
        self.conv3 = conv_bn(planes, cout, act=None)
        self.gate = SqueezeExcitation(cout)
        self.shortcut = conv_bn(cin, cout, 1, stride, act=None) if change else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = self.gate(self.conv3(self.conv2(self.conv1(x))))
        x = self.shortcut(x) if self.shortcut is not None else x
        return F.relu(torch.add(out, x), inplace=True)


class SEResNet(nn.Module):
    def __init__(
        self,
        blocks: tuple[int, int, int, int] = (3, 4, 6, 3),
        width: float = 1.0,
        depth: float = 1.0,
        classes: int = 1000,
    ) -> None:
        super().__init__()
        cin = scaled(64, width)
        layers = [conv_bn(3, cin, 7, 2), nn.MaxPool2d(3, 2, ceil_mode=True)]
        for i, count in enumerate(blocks):
            planes = scaled(64 << i, width)
            for j in range(repeats(count, depth)):
                layers.append(Block(cin, planes, 2 if i > 0 and j == 0 else 1, j == 0))
                cin = 4 * planes
        self.features = nn.Sequential(*layers)
        self.fc = nn.Linear(cin, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.adaptive_avg_pool2d(self.features(x), 1)
        return self.fc(x.view(x.size(0), -1))


NETS = (
    Net(
        "se_resnet50",
        SEResNet,
        public={},
        tiny={"width": 0.125, "depth": 0.1, "classes": 10},
        tiny_size=(32, 32),
        published=Published(
            28_088_024, 3_870_000_000, (224, 224), f"{PYTORCHCV}; MACs: the paper, section 4"
        ),
    ),
)
