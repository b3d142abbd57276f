"""RepVGG-A0, Ding et al. 2021, arXiv:2101.03697, table 2, and MobileOne-S0, Vasu et al. 2022,
arXiv:2206.04040; both in their training form, with the branches that deployment sums."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from tests.zoo.blocks import conv_bn, repeats, scaled
from tests.zoo.zoo import TIMM, Net, Published


class RepBlock(nn.Module):
    """relu(3x3 + 1x1 + identity), a batch norm in each."""

    def __init__(self, cin: int, cout: int, stride: int) -> None:
        super().__init__()
        self.identity = nn.BatchNorm2d(cin) if cin == cout and stride == 1 else None
        self.dense = conv_bn(cin, cout, 3, stride, act=None)
        self.point = conv_bn(cin, cout, 1, stride, act=None)
        self.nonlinearity = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.identity is None:
            return self.nonlinearity(self.dense(x) + self.point(x))
        return self.nonlinearity(self.dense(x) + self.point(x) + self.identity(x))


class RepVGG(nn.Module):
    def __init__(self, width: float = 1.0, depth: float = 1.0, classes: int = 1000) -> None:
        super().__init__()
        cin = scaled(48, width)
        blocks = [RepBlock(3, cin, 2)]
        for channels, count in ((48, 2), (96, 4), (192, 14), (1280, 1)):
            cout = scaled(channels, width)
            for i in range(repeats(count, depth)):
                blocks.append(RepBlock(cin, cout, 2 if i == 0 else 1))
                cin = cout
        self.body = nn.Sequential(*blocks)
        self.gap = nn.AdaptiveAvgPool2d(1)
        self.linear = nn.Linear(cin, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.gap(self.body(x))
        return self.linear(torch.reshape(x, (x.size(0), -1)))


class OneBlock(nn.Module):
    """relu of the sum of `branches` equal convolutions, a 1x1 for kernels above one, and a batch
    norm where the shape stays."""

    def __init__(
        self, cin: int, cout: int, kernel: int, stride: int, groups: int, branches: int
    ) -> None:
        super().__init__()
        self.skip = nn.BatchNorm2d(cin) if cin == cout and stride == 1 else None
        convs = [conv_bn(cin, cout, kernel, stride, groups, act=None) for _ in range(branches)]
        if kernel > 1:
            convs.append(conv_bn(cin, cout, 1, stride, groups, act=None))
        self.convs = nn.ModuleList(convs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = sum(conv(x) for conv in self.convs)
        if self.skip is not None:
            out = self.skip(x) + out
        return F.relu(out)


class MobileOne(nn.Module):
    def __init__(
        self, branches: int = 4, width: float = 1.0, depth: float = 1.0, classes: int = 1000
    ) -> None:
        super().__init__()
        cin = scaled(48, width)
        blocks = [OneBlock(3, cin, 3, 2, 1, 1)]
        for channels, count in ((48, 2), (128, 8), (256, 10), (1024, 1)):
            cout = scaled(channels, width)
            for i in range(repeats(count, depth)):
                blocks.append(OneBlock(cin, cin, 3, 2 if i == 0 else 1, cin, branches))
                blocks.append(OneBlock(cin, cout, 1, 1, 1, branches))
                cin = cout
        self.body = nn.Sequential(*blocks)
        self.linear = nn.Linear(cin, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(F.adaptive_avg_pool2d(self.body(x), 1).flatten(1))


NETS = (
    Net(
        "repvgg_a0",
        RepVGG,
        public={},
        tiny={"width": 0.125, "depth": 0.2, "classes": 10},
        tiny_size=(32, 32),
        published=Published(9_110_000, 1_520_000_000, (224, 224), TIMM),
    ),
    Net(
        "mobileone_s0",
        MobileOne,
        public={},
        tiny={"branches": 2, "width": 0.125, "depth": 0.1, "classes": 10},
        tiny_size=(32, 32),
        published=Published(5_290_000, None, (224, 224), TIMM),
    ),
)
