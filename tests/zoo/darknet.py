"""Darknet-19, Redmon and Farhadi 2016, arXiv:1612.08242, table 6; Darknet-53, Redmon and Farhadi
2018, arXiv:1804.02767, table 1; CSPDarknet-53, Wang et al. 2019, arXiv:1911.11929 and Bochkovskiy
et al. 2020, arXiv:2004.10934."""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from torch import nn

from tests.zoo.blocks import conv_bn, repeats, scaled
from tests.zoo.zoo import PYTORCHCV, TIMM, Net, Published

_leaky = partial(nn.LeakyReLU, 0.1)
_conv = partial(conv_bn, act=_leaky)


class Darknet19(nn.Module):
    #: channels of a stage's convolutions; 3x3 and 1x1 in turn
    STAGES = ((32,), (64,), (128, 64, 128), (256, 128, 256), (512, 256, 512, 256, 512),
              (1024, 512, 1024, 512, 1024))  # fmt: skip

    def __init__(self, width: float = 1.0, depth: float = 1.0, classes: int = 1000) -> None:
        super().__init__()
        cin, layers = 3, []
        for i, stage in enumerate(self.STAGES):
            if i > 0:
                layers.append(nn.MaxPool2d(2, 2))
            for j, channels in enumerate(stage[: repeats(len(stage), depth)]):
                cout = scaled(channels, width)
                layers.append(_conv(cin, cout, 3 if j % 2 == 0 else 1))
                cin = cout
        self.features = nn.Sequential(*layers)
        self.output = nn.Conv2d(cin, classes, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.adaptive_avg_pool2d(self.output(self.features(x)), 1).flatten(1)


class Residual(nn.Module):
    def __init__(self, channels: int, inner: int) -> None:
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(channels, inner, 1, bias=False), nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, channels, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = F.leaky_relu(self.norm1(self.conv1(x)), 0.1)
        return F.leaky_relu_(self.norm2(self.conv2(out)), 0.1) + x


_STAGES = ((64, 1), (128, 2), (256, 8), (512, 8), (1024, 4))


class Darknet53(nn.Module):
    def __init__(self, width: float = 1.0, depth: float = 1.0, classes: int = 1000) -> None:
        super().__init__()
        cin = scaled(32, width)
        layers: list[nn.Module] = [_conv(3, cin, 3)]
        for channels, count in _STAGES:
            cout = scaled(channels, width)
            layers.append(_conv(cin, cout, 3, 2))
            layers += [Residual(cout, cout // 2) for _ in range(repeats(count, depth))]
            cin = cout
        self.features = nn.Sequential(*layers)
        self.fc = nn.Linear(cin, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.features(x).mean((2, 3)))


class CrossStage(nn.Module):
    """Half of the channels goes through the residual blocks, the other half around them. In the
    first stage both halves keep all channels."""

    def __init__(self, cin: int, cout: int, blocks: int, first: bool) -> None:
        super().__init__()
        half = cout if first else cout // 2
        inner = cout // 2 if first else half
        self.down = _conv(cin, cout, 3, 2)
        self.split = _conv(cout, 2 * half)
        self.blocks = nn.Sequential(*(Residual(half, inner) for _ in range(blocks)))
        self.transition = _conv(half, half)
        self.merge = _conv(2 * half, cout)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        around, through = torch.chunk(self.split(self.down(x)), 2, dim=1)
        through = self.transition(self.blocks(through))
        return self.merge(torch.concatenate([around, through], dim=1))


class CSPDarknet53(nn.Module):
    def __init__(self, width: float = 1.0, depth: float = 1.0, classes: int = 1000) -> None:
        super().__init__()
        cin = scaled(32, width)
        self.stem = _conv(3, cin, 3)
        self.stages = nn.ModuleList()
        for i, (channels, count) in enumerate(_STAGES):
            cout = scaled(channels, width)
            self.stages.append(CrossStage(cin, cout, repeats(count, depth), i == 0))
            cin = cout
        self.head = nn.Linear(cin, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        for stage in self.stages:
            x = stage(x)
        return self.head(F.adaptive_avg_pool2d(x, 1).reshape(-1, self.head.in_features))


NETS = (
    Net(
        "darknet19",
        Darknet19,
        public={},
        tiny={"width": 0.125, "depth": 0.6, "classes": 10},
        tiny_size=(64, 64),
        published=Published(
            None, 3_645_000_000, (256, 256), "YOLOv3's paper, table 2: 7.29 Bn operations, halved"
        ),
    ),
    Net(
        "darknet53",
        Darknet53,
        public={},
        tiny={"width": 0.125, "depth": 0.2, "classes": 10},
        tiny_size=(64, 64),
        published=Published(41_609_928, 7_133_860_000, (224, 224), PYTORCHCV),
    ),
    Net(
        "cspdarknet53",
        CSPDarknet53,
        public={},
        tiny={"width": 0.125, "depth": 0.2, "classes": 10},
        tiny_size=(64, 64),
        published=Published(27_640_000, None, (256, 256), TIMM),
    ),
)
