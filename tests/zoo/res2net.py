"""Res2Net-50 26w 4s, Gao et al. 2019, arXiv:1904.01169, figure 2: a hierarchy of 3x3 convolutions
over slices of a bottleneck's channels."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from tests.zoo.blocks import conv_bn, repeats, scaled
from tests.zoo.zoo import TIMM, Net, Published


class Block(nn.Module):
    """Four slices: three are filtered, each one added to the next; the fourth goes by. The first
    block of a stage adds nothing and averages the fourth."""

    def __init__(self, cin: int, planes: int, stride: int, first: bool, base: int) -> None:
        super().__init__()
        self.slice = planes * base // 64
        self.first = first
        self.conv1 = conv_bn(cin, 4 * self.slice)
        self.convs = nn.ModuleList(conv_bn(self.slice, self.slice, 3, stride) for _ in range(3))
        self.pool = nn.AvgPool2d(3, stride, 1) if first else nn.Identity()
        self.conv3 = conv_bn(4 * self.slice, 4 * planes, act=None)
        self.shortcut = conv_bn(cin, 4 * planes, 1, stride, act=None) if first else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        slices = torch.split(self.conv1(x), self.slice, 1)
        out = self.convs[0](slices[0])
        outputs = [out]
        for part, conv in zip(slices[1:3], self.convs[1:], strict=True):
            out = conv(part if self.first else out + part)
            outputs.append(out)
        outputs.append(self.pool(slices[3]))
        return F.relu(self.conv3(torch.cat(outputs, 1)) + self.shortcut(x), inplace=True)


class Res2Net(nn.Module):
    def __init__(
        self, base: int = 26, width: float = 1.0, depth: float = 1.0, classes: int = 1000
    ) -> None:
        super().__init__()
        cin = scaled(64, width)
        layers = [conv_bn(3, cin, 7, 2), nn.MaxPool2d(3, stride=2, padding=1)]
        for i, count in enumerate((3, 4, 6, 3)):
            planes = scaled(64 << i, width)
            for j in range(repeats(count, depth)):
                layers.append(Block(cin, planes, 2 if i > 0 and j == 0 else 1, j == 0, base))
                cin = 4 * planes
        self.features = nn.Sequential(*layers)
        self.fc = nn.Linear(cin, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.features(x).mean((-1, -2)))


NETS = (
    Net(
        "res2net50_26w_4s",
        Res2Net,
        public={},
        tiny={"base": 32, "width": 0.125, "depth": 0.4, "classes": 10},
        tiny_size=(32, 32),
        published=Published(25_700_000, None, (224, 224), TIMM),
    ),
)
