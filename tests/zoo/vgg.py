"""VGG, Simonyan and Zisserman 2014, arXiv:1409.1556, table 1; with batch norm as torchvision
publishes it."""

from __future__ import annotations

from functools import partial

import torch
from torch import nn

from tests.zoo.blocks import repeats, scaled
from tests.zoo.zoo import TORCHVISION, Net, Published

_CHANNELS = (64, 128, 256, 512, 512)


class VGG(nn.Module):
    """Stages of 3x3 convolutions, a max pool after each, three linear layers."""

    def __init__(
        self,
        blocks: tuple[int, ...],
        norm: bool = True,
        width: float = 1.0,
        depth: float = 1.0,
        classes: int = 1000,
        hidden: int = 4096,
        grid: int = 7,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        cin = 3
        for count, channels in zip(blocks, _CHANNELS, strict=True):
            cout = scaled(channels, width)
            for _ in range(repeats(count, depth)):
                layers += self._conv(cin, cout, norm)
                cin = cout
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.pool = nn.AdaptiveAvgPool2d(grid)
        self.classifier = nn.Sequential(
            nn.Linear(cin * grid * grid, hidden), nn.ReLU(inplace=True), nn.Dropout(),
            nn.Linear(hidden, hidden), nn.ReLU(inplace=True), nn.Dropout(),
            nn.Linear(hidden, classes),
        )  # fmt: skip

    @staticmethod
    def _conv(cin: int, cout: int, norm: bool) -> list[nn.Module]:
        if norm:
            conv = nn.Conv2d(cin, cout, 3, padding=1)  # the public weights have both biases
            return [conv, nn.BatchNorm2d(cout), nn.ReLU(inplace=True)]
        return [nn.Conv2d(cin, cout, 3, padding="same"), nn.ReLU(inplace=True)]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(torch.flatten(self.pool(self.features(x)), 1))


NETS = (
    Net(
        "vgg11",
        partial(VGG, blocks=(1, 1, 2, 2, 2), norm=False),
        public={},
        tiny={"width": 0.125, "classes": 10, "hidden": 32, "grid": 1},
        tiny_size=(32, 32),
        published=Published(132_863_336, 7_609_000_000, (224, 224), TORCHVISION),
    ),
    Net(
        "vgg16_bn",
        partial(VGG, blocks=(2, 2, 3, 3, 3)),
        public={},
        tiny={"width": 0.125, "depth": 0.6, "classes": 10, "hidden": 32, "grid": 1},
        tiny_size=(32, 32),
        published=Published(138_365_992, 15_470_000_000, (224, 224), TORCHVISION),
    ),
)
