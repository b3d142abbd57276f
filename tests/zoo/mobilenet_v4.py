"""MobileNetV4-Conv-S, Qin et al. 2024, arXiv:2404.10518: universal inverted
bottlenecks with depthwise convolutions before the expansion, behind it, both or neither."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from tests.zoo.blocks import conv_bn, repeats, scaled
from tests.zoo.zoo import TIMM, Net, Published


class UniversalBottleneck(nn.Module):
    """Depthwise `first`, expand, depthwise `second`, project; a kernel of 0 leaves one out. The
    stride is in the second one where there is one."""

    def __init__(
        self, cin: int, cout: int, first: int, second: int, stride: int, expand: float
    ) -> None:
        super().__init__()
        hidden = scaled(cin * expand)
        layers = []
        if first:
            layers.append(conv_bn(cin, cin, first, 1 if second else stride, cin, act=None))
        layers.append(conv_bn(cin, hidden))
        if second:
            layers.append(conv_bn(hidden, hidden, second, stride, hidden))
        self.block = nn.Sequential(*layers, conv_bn(hidden, cout, act=None))
        self.residual = stride == 1 and cin == cout

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = self.block(x)
        return torch.add(x, out) if self.residual else out


class MobileNetV4ConvSmall(nn.Module):
    #: kernel before, kernel behind, stride, expansion, channels; a stage a line
    STAGES = (
        ((5, 5, 2, 3.0, 96), *((0, 3, 1, 2.0, 96),) * 4, (3, 0, 1, 4.0, 96)),
        ((3, 3, 2, 6.0, 128), (5, 5, 1, 4.0, 128), (0, 5, 1, 4.0, 128), (0, 5, 1, 3.0, 128),
         (0, 3, 1, 4.0, 128), (0, 3, 1, 4.0, 128)),
    )  # fmt: skip

    def __init__(self, width: float = 1.0, depth: float = 1.0, classes: int = 1000) -> None:
        super().__init__()
        c32, c64, c96 = (scaled(c, width) for c in (32, 64, 96))
        self.stem = nn.Sequential(
            conv_bn(3, c32, 3, 2), conv_bn(c32, c32, 3, 2), conv_bn(c32, c32),
            conv_bn(c32, c96, 3, 2), conv_bn(c96, c64),
        )  # fmt: skip
        self.blocks = nn.Sequential()
        cin = c64
        for stage in self.STAGES:
            for first, second, stride, expand, channels in stage[: repeats(len(stage), depth)]:
                cout = scaled(channels, width)
                self.blocks.append(UniversalBottleneck(cin, cout, first, second, stride, expand))
                cin = cout
        c960, c1280 = scaled(960, width), scaled(1280, width)
        self.last = conv_bn(cin, c960)
        self.head = conv_bn(c960, c1280)
        self.fc = nn.Linear(c1280, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.last(self.blocks(self.stem(x)))
        x = self.head(F.adaptive_avg_pool2d(x, 1))
        return self.fc(x.squeeze(3).squeeze(2))


NETS = (
    Net(
        "mobilenet_v4_conv_small",
        MobileNetV4ConvSmall,
        public={},
        tiny={"width": 0.25, "depth": 0.5, "classes": 10},
        tiny_size=(64, 64),
        published=Published(3_770_000, None, (224, 224), TIMM),
    ),
)
