"""GoogLeNet, Szegedy et al. 2014, arXiv:1409.4842, table 1, with batch norm and its 5x5 branch
as 3x3 (both as in the TensorFlow and torchvision releases); Inception V3, Szegedy et al. 2015,
arXiv:1512.00567, table 1. Without the classifiers that only training uses."""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from torch import nn

from tests.zoo.blocks import conv_bn, repeats, scaled
from tests.zoo.zoo import PYTORCHCV, TORCHVISION, Net, Published

_conv = partial(conv_bn, eps=1e-3)


class Branches(nn.Module):
    """Branches side by side, concatenated."""

    def __init__(self, *branches: nn.Module) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([branch(x) for branch in self.branches], 1)


class GoogLeNet(nn.Module):
    #: 1x1, 3x3 reduce, 3x3, 5x5 reduce, 5x5, pool projection
    TABLE = (
        ((64, 96, 128, 16, 32, 32), (128, 128, 192, 32, 96, 64)),
        ((192, 96, 208, 16, 48, 64), (160, 112, 224, 24, 64, 64), (128, 128, 256, 24, 64, 64),
         (112, 144, 288, 32, 64, 64), (256, 160, 320, 32, 128, 128)),
        ((256, 160, 320, 32, 128, 128), (384, 192, 384, 48, 128, 128)),
    )  # fmt: skip

    def __init__(self, width: float = 1.0, depth: float = 1.0, classes: int = 1000) -> None:
        super().__init__()
        c64, cin = scaled(64, width), scaled(192, width)
        layers: list[nn.Module] = [
            _conv(3, c64, 7, 2), nn.MaxPool2d(3, 2, ceil_mode=True),
            _conv(c64, c64), _conv(c64, cin, 3), nn.MaxPool2d(3, 2, ceil_mode=True),
        ]  # fmt: skip
        for i, stage in enumerate(self.TABLE):
            for row in stage[: repeats(len(stage), depth)]:
                layers.append(self._inception(cin, *(scaled(c, width) for c in row)))
                cin = sum(scaled(row[k], width) for k in (0, 2, 4, 5))
            if i < 2:
                layers.append(nn.MaxPool2d(3 - i, 2, ceil_mode=True))
        self.features = nn.Sequential(*layers)
        self.dropout = nn.Dropout(0.2)
        self.fc = nn.Linear(cin, classes)

    @staticmethod
    def _inception(cin: int, c1: int, r3: int, c3: int, r5: int, c5: int, pool: int) -> Branches:
        return Branches(
            _conv(cin, c1),
            nn.Sequential(_conv(cin, r3), _conv(r3, c3, 3)),
            nn.Sequential(_conv(cin, r5), _conv(r5, c5, 3)),
            nn.Sequential(nn.MaxPool2d(3, 1, 1, ceil_mode=True), _conv(cin, pool)),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.features(x)
        x = torch.squeeze(torch.squeeze(F.adaptive_avg_pool2d(x, (1, 1)), 3), 2)
        return self.fc(self.dropout(x))


def _chain(cin: int, *rows: tuple[int, int | tuple[int, int]], stride: int = 1) -> nn.Sequential:
    """Convolutions one behind the other, (channels, kernel); the last one strides, unpadded."""
    layers = []
    for i, (cout, kernel) in enumerate(rows):
        if stride == 2 and i == len(rows) - 1:
            layers.append(_valid(cin, cout, 2))
        else:
            layers.append(_conv(cin, cout, kernel))
        cin = cout
    return nn.Sequential(*layers)


def _valid(cin: int, cout: int, stride: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(cin, cout, 3, stride, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(cout, eps=1e-3), nn.ReLU(inplace=True))


class Fork(nn.Module):
    """One trunk that ends in a 1x3 and a 3x1 convolution side by side."""

    def __init__(self, trunk: nn.Module, channels: int) -> None:
        super().__init__()
        self.trunk = trunk
        self.flat = _conv(channels, channels, (1, 3))
        self.tall = _conv(channels, channels, (3, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.trunk(x)
        return torch.cat((self.flat(x), self.tall(x)), dim=1)


class InceptionV3(nn.Module):
    def __init__(self, width: float = 1.0, depth: float = 1.0, classes: int = 1000) -> None:
        super().__init__()
        s = partial(scaled, width=width)
        self.stem = nn.Sequential(
            _valid(3, s(32), 2), _valid(s(32), s(32)), _conv(s(32), s(64), 3), nn.MaxPool2d(3, 2),
            _conv(s(64), s(80)), _valid(s(80), s(192)), nn.MaxPool2d(3, 2),
        )  # fmt: skip
        cin, body = s(192), []
        for pool in (32, 64, 64)[: repeats(3, depth)]:
            c48, c64, c96 = s(48), s(64), s(96)
            body.append(Branches(
                _conv(cin, c64), _chain(cin, (c48, 1), (c64, 5)),
                _chain(cin, (c64, 1), (c96, 3), (c96, 3)), self._pooled(cin, s(pool)),
            ))  # fmt: skip
            cin = 2 * c64 + c96 + s(pool)
        body.append(Branches(
            _valid(cin, s(384), 2), _chain(cin, (s(64), 1), (s(96), 3), (s(96), 3), stride=2),
            nn.MaxPool2d(3, 2),
        ))  # fmt: skip
        cin += s(384) + s(96)
        for inner in (128, 160, 160, 192)[: repeats(4, depth)]:
            c, c192 = s(inner), s(192)
            body.append(Branches(
                _conv(cin, c192), _chain(cin, (c, 1), (c, (1, 7)), (c192, (7, 1))),
                _chain(cin, (c, 1), (c, (7, 1)), (c, (1, 7)), (c, (7, 1)), (c192, (1, 7))),
                self._pooled(cin, c192),
            ))  # fmt: skip
            cin = 4 * c192
        body.append(Branches(
            _chain(cin, (s(192), 1), (s(320), 3), stride=2),
            _chain(cin, (s(192), 1), (s(192), (1, 7)), (s(192), (7, 1)), (s(192), 3), stride=2),
            nn.MaxPool2d(3, 2),
        ))  # fmt: skip
        cin += s(320) + s(192)
        for _ in range(repeats(2, depth)):
            c384 = s(384)
            body.append(Branches(
                _conv(cin, s(320)), Fork(_conv(cin, c384), c384),
                Fork(_chain(cin, (s(448), 1), (c384, 3)), c384), self._pooled(cin, s(192)),
            ))  # fmt: skip
            cin = s(320) + 4 * c384 + s(192)
        self.body = nn.Sequential(*body)
        self.dropout = nn.Dropout(0.5)
        self.fc = nn.Linear(cin, classes)

    @staticmethod
    def _pooled(cin: int, cout: int) -> nn.Sequential:
        return nn.Sequential(nn.AvgPool2d(3, 1, 1), _conv(cin, cout))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.body(self.stem(x))
        x = F.adaptive_avg_pool2d(x, 1)
        return self.fc(torch.flatten(self.dropout(x), 1))


NETS = (
    Net(
        "googlenet",
        GoogLeNet,
        public={},
        tiny={"width": 0.125, "depth": 0.2, "classes": 10},
        tiny_size=(64, 64),
        published=Published(6_624_904, 1_498_000_000, (224, 224), TORCHVISION),
    ),
    Net(
        "inception_v3",
        InceptionV3,
        public={},
        tiny={"width": 0.125, "depth": 0.2, "classes": 10},
        tiny_size=(75, 75),
        published=Published(
            23_834_568, 5_713_000_000, (299, 299), f"{PYTORCHCV}; MACs: {TORCHVISION}"
        ),
    ),
)
