"""GhostNet, Han et al. 2019, arXiv:1911.11907."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from tests.zoo.blocks import conv_bn, repeats, scaled
from tests.zoo.zoo import TIMM, Net, Published


class Ghost(nn.Module):
    """Half of the features by a 1x1 convolution, the other half cheaply from these."""

    def __init__(self, cin: int, cout: int, relu: bool) -> None:
        super().__init__()
        half = -(-cout // 2)
        act = nn.ReLU if relu else None
        self.cout = cout
        self.primary = conv_bn(cin, half, act=act)
        self.cheap = conv_bn(half, half, 3, groups=half, act=act)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        intrinsic = self.primary(x)
        ghosts = self.cheap(intrinsic)
        return torch.cat([intrinsic, ghosts], 1)[:, : self.cout, :, :]


class Gate(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        squeezed = scaled(channels / 4, divisor=4)
        self.reduce = nn.Conv2d(channels, squeezed, 1)
        self.expand = nn.Conv2d(squeezed, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        gate = self.expand(F.relu(self.reduce(x.mean((2, 3), keepdim=True))))
        # the hard sigmoid of the authors' code, spelt out
        return x.mul(F.relu6(gate + 3.0) / 6.0)


class GhostBottleneck(nn.Module):
    def __init__(
        self, cin: int, hidden: int, cout: int, kernel: int, stride: int, gate: bool
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = [Ghost(cin, hidden, True)]
        if stride > 1:
            layers.append(conv_bn(hidden, hidden, kernel, stride, hidden, act=None))
        if gate:
            layers.append(Gate(hidden))
        self.main = nn.Sequential(*layers, Ghost(hidden, cout, False))
        self.shortcut = nn.Sequential()
        if stride > 1 or cin != cout:
            self.shortcut.append(conv_bn(cin, cin, kernel, stride, cin, act=None))
            self.shortcut.append(conv_bn(cin, cout, act=None))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = self.main(x)
        out += self.shortcut(x)
        return out


class GhostNet(nn.Module):
    #: kernel, hidden, channels, gate, stride; a stage a line
    STAGES = (
        ((3, 16, 16, False, 1),),
        ((3, 48, 24, False, 2), (3, 72, 24, False, 1)),
        ((5, 72, 40, True, 2), (5, 120, 40, True, 1)),
        ((3, 240, 80, False, 2), (3, 200, 80, False, 1), (3, 184, 80, False, 1),
         (3, 184, 80, False, 1), (3, 480, 112, True, 1), (3, 672, 112, True, 1)),
        ((5, 672, 160, True, 2), (5, 960, 160, False, 1), (5, 960, 160, True, 1),
         (5, 960, 160, False, 1), (5, 960, 160, True, 1)),
    )  # fmt: skip

    def __init__(self, width: float = 1.0, depth: float = 1.0, classes: int = 1000) -> None:
        super().__init__()
        cin = scaled(16, width, 4)
        layers = [conv_bn(3, cin, 3, 2)]
        for stage in self.STAGES:
            for kernel, hidden, channels, gate, stride in stage[: repeats(len(stage), depth)]:
                cout, wide = scaled(channels, width, 4), scaled(hidden, width, 4)
                layers.append(GhostBottleneck(cin, wide, cout, kernel, stride, gate))
                cin = cout
        last, hidden = scaled(960, width, 4), scaled(1280, width, 4)
        self.blocks = nn.Sequential(*layers, conv_bn(cin, last))
        self.global_pool = nn.AdaptiveAvgPool2d((1, 1))
        self.conv_head = nn.Conv2d(last, hidden, 1)
        self.act = nn.ReLU(inplace=True)
        self.classifier = nn.Linear(hidden, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.act(self.conv_head(self.global_pool(self.blocks(x))))
        return self.classifier(F.dropout(x.view(x.size(0), -1), p=0.2, training=self.training))


NETS = (
    Net(
        "ghostnet",
        GhostNet,
        public={},
        tiny={"width": 0.25, "depth": 0.4, "classes": 10},
        tiny_size=(32, 32),
        published=Published(5_180_000, 141_000_000, (224, 224), f"{TIMM}; MACs: the paper, 141 M"),
    ),
)
