"""AlexNet in one column, Krizhevsky 2014, arXiv:1404.5997; batch norms behind its convolutions
where asked."""

from __future__ import annotations

import torch
from torch import nn

from tests.zoo.blocks import repeats, scaled
from tests.zoo.zoo import TORCHVISION, Net, Published


class AlexNet(nn.Module):
    """Five convolutions, three max pools, three linear layers."""

    def __init__(
        self,
        norm: bool = False,
        width: float = 1.0,
        depth: float = 1.0,
        classes: int = 1000,
        hidden: int = 4096,
        grid: int = 6,
    ) -> None:
        super().__init__()
        c1, c2, c3, c4 = (scaled(c, width) for c in (64, 192, 384, 256))
        middle = [(c3, c4)] + [(c4, c4)] * (repeats(2, depth) - 1)
        rows: list[tuple[int, int, int, int, int] | None] = [
            (3, c1, 11, 4, 2), None, (c1, c2, 5, 1, 2), None, (c2, c3, 3, 1, 1),
            *((cin, cout, 3, 1, 1) for cin, cout in middle), None,
        ]  # fmt: skip
        self.features = nn.Sequential()
        for row in rows:
            if row is None:
                self.features.append(nn.MaxPool2d(kernel_size=3, stride=2))
                continue
            self.features.append(nn.Conv2d(*row))
            if norm:
                self.features.append(nn.BatchNorm2d(row[1]))
            self.features.append(nn.ReLU(inplace=True))
        self.avgpool = nn.AdaptiveAvgPool2d((grid, grid))
        self.flatten = nn.Flatten()
        self.classifier = nn.Sequential(
            nn.Dropout(0.5), nn.Linear(c4 * grid * grid, hidden), nn.ReLU(True),
            nn.Dropout(0.5), nn.Linear(hidden, hidden), nn.ReLU(True),
            nn.Linear(hidden, classes),
        )  # fmt: skip

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.flatten(self.avgpool(self.features(x))))


NETS = (
    Net(
        "alexnet_bn",
        AlexNet,
        public={},
        tiny={"norm": True, "width": 0.125, "classes": 10, "hidden": 32, "grid": 1},
        tiny_size=(64, 64),
        published=Published(61_100_840, 714_000_000, (224, 224), TORCHVISION),
    ),
)
