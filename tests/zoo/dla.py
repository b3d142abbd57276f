"""DLA-34, Yu et al. 2017, arXiv:1707.06484, table 1: deep layer aggregation by trees."""

from __future__ import annotations

import torch
from torch import nn

from tests.zoo.blocks import conv_bn, repeats, scaled
from tests.zoo.zoo import PYTORCHCV, Net, Published


class Basic(nn.Module):
    """Two 3x3 convolutions; the shortcut is given."""

    def __init__(self, cin: int, cout: int, stride: int) -> None:
        super().__init__()
        self.conv1 = conv_bn(cin, cout, 3, stride)
        self.conv2 = conv_bn(cout, cout, 3, act=None)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: torch.Tensor, shortcut: torch.Tensor) -> torch.Tensor:
        return self.relu(self.conv2(self.conv1(x)).add_(shortcut))


class Tree(nn.Module):
    """levels 1: two blocks and a root over them. Higher: two trees; the second one's root sees
    the first one's result. pass_input: the root also sees the (reduced) input."""

    def __init__(
        self,
        levels: int,
        cin: int,
        cout: int,
        stride: int,
        pass_input: bool = False,
        extra: int = 0,
    ) -> None:
        super().__init__()
        extra += cin if pass_input else 0
        self.levels, self.pass_input = levels, pass_input
        self.down = nn.MaxPool2d(stride, stride) if stride > 1 else None
        if levels == 1:
            self.first, self.second = Basic(cin, cout, stride), Basic(cout, cout, 1)
            self.project = conv_bn(cin, cout, act=None) if cin != cout else None
            self.root = conv_bn(2 * cout + extra, cout)
        else:
            self.first = Tree(levels - 1, cin, cout, stride)
            self.second = Tree(levels - 1, cout, cout, 1, extra=extra + cout)

    def forward(self, x: torch.Tensor, *children: torch.Tensor) -> torch.Tensor:
        reduced = x if self.down is None else self.down(x)
        if self.pass_input:
            children = (*children, reduced)
        if self.levels > 1:
            first = self.first(x)
            return self.second(first, *children, first)
        first = self.first(x, reduced if self.project is None else self.project(reduced))
        second = self.second(first, first)
        return self.root(torch.cat((second, first, *children), 1))


class DLA(nn.Module):
    def __init__(self, width: float = 1.0, depth: float = 1.0, classes: int = 1000) -> None:
        super().__init__()
        c = [scaled(channels, width) for channels in (16, 32, 64, 128, 256, 512)]
        deep = repeats(2, depth)
        self.base = nn.Sequential(
            conv_bn(3, c[0], 7), conv_bn(c[0], c[0], 3), conv_bn(c[0], c[1], 3, 2)
        )  # fmt: skip
        self.trees = nn.ModuleList([
            Tree(1, c[1], c[2], 2), Tree(deep, c[2], c[3], 2, True),
            Tree(deep, c[3], c[4], 2, True), Tree(1, c[4], c[5], 2, True),
        ])  # fmt: skip
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Conv2d(c[5], classes, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.base(x)
        for tree in self.trees:
            x = tree(x)
        return self.fc(self.pool(x)).flatten(1)


NETS = (
    Net(
        "dla34",
        DLA,
        public={},
        tiny={"width": 0.5, "classes": 10},
        tiny_size=(32, 32),
        published=Published(15_742_104, 3_071_370_000, (224, 224), PYTORCHCV),
    ),
)
