"""ResNet, He et al. 2015, arXiv:1512.03385, table 1 (bottlenecks stride in their 3x3 convolution,
as torchvision publishes them); ResNeXt, Xie et al. 2016, arXiv:1611.05431; Wide ResNet,
Zagoruyko and Komodakis 2016, arXiv:1605.07146."""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from torch import nn

from tests.zoo.blocks import conv_bn, repeats, scaled
from tests.zoo.zoo import TORCHVISION, Net, Published


class Basic(nn.Module):
    """Two 3x3 convolutions and a shortcut."""

    expansion = 1

    def __init__(self, cin: int, planes: int, stride: int, groups: int, base: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(cin, planes, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        same = stride == 1 and cin == planes
        self.downsample = None if same else conv_bn(cin, planes, 1, stride, act=None)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += shortcut
        return F.relu(out)


class Bottleneck(nn.Module):
    """1x1, 3x3 (in groups), 1x1, and a shortcut."""

    expansion = 4

    def __init__(self, cin: int, planes: int, stride: int, groups: int, base: int) -> None:
        super().__init__()
        inner, cout = planes * base // 64 * groups, planes * self.expansion
        self.reduce = conv_bn(cin, inner)
        self.spatial = conv_bn(inner, inner, 3, stride, groups)
        self.expand = conv_bn(inner, cout, act=None)
        same = stride == 1 and cin == cout
        self.downsample = nn.Identity() if same else conv_bn(cin, cout, 1, stride, act=None)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = self.expand(self.spatial(self.reduce(x)))
        return self.relu(out + self.downsample(x))


class ResNet(nn.Module):
    """A stem, a max pool, four stages of blocks, an average and a linear layer.

    groups, base: of the bottlenecks' 3x3 convolution; it has planes * base / 64 * groups channels.
    """

    def __init__(
        self,
        block: type[Basic | Bottleneck],
        blocks: tuple[int, int, int, int],
        groups: int = 1,
        base: int = 64,
        width: float = 1.0,
        depth: float = 1.0,
        classes: int = 1000,
    ) -> None:
        super().__init__()
        cin = scaled(64, width)
        self.stem = conv_bn(3, cin, 7, 2)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        stages = []
        for i, count in enumerate(blocks):
            planes = scaled(64 << i, width)
            layers = []
            for j in range(repeats(count, depth)):
                layers.append(block(cin, planes, 2 if i > 0 and j == 0 else 1, groups, base))
                cin = planes * block.expansion
            stages.append(nn.Sequential(*layers))
        self.stages = nn.ModuleList(stages)
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(cin, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.maxpool(self.stem(x))
        for stage in self.stages:
            x = stage(x)
        return self.fc(torch.flatten(self.avgpool(x), 1))


_SIZE = (224, 224)

NETS = (
    Net(
        "resnet18",
        partial(ResNet, Basic, (2, 2, 2, 2)),
        public={},
        tiny={"width": 0.125, "classes": 10},
        tiny_size=(32, 32),
        published=Published(11_689_512, 1_814_000_000, _SIZE, TORCHVISION),
    ),
    Net(
        "resnet50",
        partial(ResNet, Bottleneck, (3, 4, 6, 3)),
        public={},
        tiny={"width": 0.125, "depth": 0.1, "classes": 10},
        tiny_size=(32, 32),
        published=Published(25_557_032, 4_089_000_000, _SIZE, TORCHVISION),
    ),
    Net(
        "resnext50_32x4d",
        partial(ResNet, Bottleneck, (3, 4, 6, 3)),
        public={"groups": 32, "base": 4},
        tiny={"groups": 4, "base": 32, "width": 0.125, "depth": 0.1, "classes": 10},
        tiny_size=(32, 32),
        published=Published(25_028_904, 4_230_000_000, _SIZE, TORCHVISION),
    ),
    Net(
        "wide_resnet50_2",
        partial(ResNet, Bottleneck, (3, 4, 6, 3)),
        public={"base": 128},
        tiny={"base": 128, "width": 0.125, "depth": 0.3, "classes": 10},
        tiny_size=(32, 32),
        published=Published(68_883_240, 11_398_000_000, _SIZE, TORCHVISION),
    ),
)
