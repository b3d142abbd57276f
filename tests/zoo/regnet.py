"""RegNetX-400MF and RegNetY-400MF, Radosavovic et al. 2020, arXiv:2003.13678, at
torchvision's widths."""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from torch import nn

from tests.zoo.blocks import conv_bn, repeats, scaled
from tests.zoo.zoo import TORCHVISION, Net, Published


class Gate(nn.Module):
    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.squeeze, self.excite = (
            nn.Conv2d(channels, squeezed, 1),
            nn.Conv2d(squeezed, channels, 1),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        gate = F.relu(self.squeeze(F.adaptive_avg_pool2d(x, (1, 1))))
        return x * F.sigmoid(self.excite(gate))


class Block(nn.Module):
    """1x1, grouped 3x3, a gate (Y), 1x1, and a shortcut."""

    def __init__(self, cin: int, cout: int, stride: int, group: int, gate: bool) -> None:
        super().__init__()
        self.a = conv_bn(cin, cout)
        self.b = conv_bn(cout, cout, 3, stride, cout // group)
        self.se = Gate(cout, round(cin / 4)) if gate else nn.Identity()
        self.c = conv_bn(cout, cout, act=None)
        self.proj = None
        if cin != cout or stride != 1:
            self.proj = conv_bn(cin, cout, 1, stride, act=None)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = self.c(self.se(self.b(self.a(x))))
        if self.proj is not None:
            return F.relu(self.proj(x) + out)
        return F.relu(x + out)


class RegNet(nn.Module):
    """rows: (channels, blocks) of the four stages; group: channels of a group."""

    def __init__(
        self,
        rows: tuple[tuple[int, int], ...],
        group: int,
        gate: bool,
        width: float = 1.0,
        depth: float = 1.0,
        classes: int = 1000,
    ) -> None:
        super().__init__()
        cin = scaled(32, width)
        layers: list[nn.Module] = [conv_bn(3, cin, 3, 2)]
        for channels, count in rows:
            cout = scaled(channels, width, group)
            for i in range(repeats(count, depth)):
                layers.append(Block(cin, cout, 2 if i == 0 else 1, group, gate))
                cin = cout
        self.trunk = nn.Sequential(*layers)
        self.fc = nn.Linear(cin, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(torch.flatten(self.trunk(x).mean(dim=[2, 3], keepdim=True), 1))


NETS = (
    Net(
        "regnet_x_400mf",
        partial(RegNet, ((32, 1), (64, 2), (160, 7), (400, 12)), 16, False),
        public={},
        tiny={"width": 0.25, "depth": 0.1, "classes": 10},
        tiny_size=(32, 32),
        published=Published(5_495_976, 414_000_000, (224, 224), TORCHVISION),
    ),
    Net(
        "regnet_y_400mf",
        partial(RegNet, ((48, 1), (104, 3), (208, 6), (440, 6)), 8, True),
        public={},
        tiny={"width": 0.25, "depth": 0.1, "classes": 10},
        tiny_size=(32, 32),
        published=Published(4_344_144, 402_000_000, (224, 224), TORCHVISION),
    ),
)
