"""MobileNeXt, Zhou et al. 2020, arXiv:2007.02269: sandglass blocks, whose shortcut joins
the wide ends and whose depthwise convolutions lie there too."""

from __future__ import annotations

import torch
from torch import nn

from tests.zoo.blocks import conv_bn, repeats, scaled
from tests.zoo.zoo import Net


class Sandglass(nn.Module):
    def __init__(self, cin: int, cout: int, stride: int, reduction: int) -> None:
        super().__init__()
        inner = scaled(cin / reduction)
        self.block = nn.Sequential(
            conv_bn(cin, cin, 3, 1, cin, nn.ReLU6),
            conv_bn(cin, inner, act=None),
            conv_bn(inner, cout, act=nn.ReLU6),
            conv_bn(cout, cout, 3, stride, cout, None),
        )
        self.residual = stride == 1 and cin == cout

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.add(self.block(x)) if self.residual else self.block(x)


class MobileNeXt(nn.Module):
    #: reduction, channels, count, stride
    TABLE = (
        (2, 96, 1, 2), (6, 144, 1, 1), (6, 192, 3, 2), (6, 288, 3, 2), (6, 384, 4, 1),
        (6, 576, 4, 2), (6, 960, 2, 1), (6, 1280, 1, 1),
    )  # fmt: skip

    def __init__(self, width: float = 1.0, depth: float = 1.0, classes: int = 1000) -> None:
        super().__init__()
        cin = scaled(32, width)
        layers: list[nn.Module] = [conv_bn(3, cin, 3, 2, act=nn.ReLU6)]
        for reduction, channels, count, stride in self.TABLE:
            cout = scaled(channels, width)
            for i in range(repeats(count, depth)):
                layers.append(Sandglass(cin, cout, stride if i == 0 else 1, reduction))
                cin = cout
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.classifier = nn.Sequential(nn.Dropout(p=0.2), nn.Linear(cin, classes))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.avgpool(self.features(x)).view(x.size(0), -1)
        return self.classifier(x)


NETS = (
    Net(
        "mobilenext",
        MobileNeXt,
        public={},
        tiny={"width": 0.125, "depth": 0.5, "classes": 10},
        tiny_size=(32, 32),
    ),
)
