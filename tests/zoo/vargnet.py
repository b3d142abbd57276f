"""VarGNet, Zhang et al. 2019, arXiv:1907.05653, figure 1: grouped convolutions with a
fixed number of channels in each group."""

from __future__ import annotations

import torch
from torch import nn

from tests.zoo.blocks import conv_bn, repeats, scaled
from tests.zoo.zoo import Net


class VariableGroup(nn.Sequential):
    """A 3x3 convolution in groups of `group` channels to twice the channels, then a 1x1."""

    def __init__(self, cin: int, cout: int, stride: int, group: int, act: bool) -> None:
        wide = 2 * cin
        super().__init__(
            conv_bn(cin, wide, 3, stride, cin // group),
            conv_bn(wide, cout, act=nn.ReLU if act else None),
        )


class Normal(nn.Module):
    def __init__(self, channels: int, group: int) -> None:
        super().__init__()
        self.first = VariableGroup(channels, channels, 1, group, True)
        self.second = VariableGroup(channels, channels, 1, group, False)
        self.relu = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.relu(self.second(self.first(x)) + x)


class Down(nn.Module):
    """Two ways with a stride, summed, then one more; a shortcut of its own."""

    def __init__(self, cin: int, cout: int, group: int) -> None:
        super().__init__()
        self.left = VariableGroup(cin, cout, 2, group, False)
        self.right = VariableGroup(cin, cout, 2, group, False)
        self.merge = VariableGroup(cout, cout, 1, group, False)
        self.shortcut = VariableGroup(cin, cout, 2, group, False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = (self.left(x) + self.right(x)).relu()
        out = self.merge(out)
        out += self.shortcut(x)
        return out.relu_()


class VarGNet(nn.Module):
    def __init__(
        self, group: int = 8, width: float = 1.0, depth: float = 1.0, classes: int = 1000
    ) -> None:
        super().__init__()
        cin = scaled(32, width, group)
        self.features = nn.Sequential(conv_bn(3, cin, 3, 2))
        for channels, count in ((64, 1), (128, 3), (256, 7), (512, 4)):
            cout = scaled(channels, width, group)
            self.features.append(Down(cin, cout, group))
            for _ in range(repeats(count, depth) - 1):
                self.features.append(Normal(cout, group))
            cin = cout
        last = scaled(1024, width, group)
        self.features.append(conv_bn(cin, last))
        self.pool, self.flatten = nn.AdaptiveAvgPool2d(1), nn.Flatten(1)
        self.fc = nn.Linear(last, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.flatten(self.pool(self.features(x))))


NETS = (
    Net(
        "vargnet",
        VarGNet,
        public={},
        tiny={"width": 0.25, "depth": 0.3, "classes": 10},
        tiny_size=(32, 32),
    ),
)
