"""SqueezeNet 1.1, Iandola et al. 2016, arXiv:1602.07360 and the authors' later release: fire
modules without batch norm, a convolution as the classifier."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from tests.zoo.blocks import repeats, scaled
from tests.zoo.zoo import TORCHVISION, Net, Published


class Fire(nn.Module):
    """Squeeze by 1x1, expand by 1x1 and 3x3 side by side."""

    def __init__(self, cin: int, squeeze: int, expand: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(cin, squeeze, 1)
        self.expand1 = nn.Conv2d(squeeze, expand, 1)
        self.expand3 = nn.Conv2d(squeeze, expand, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.squeeze(x), inplace=True)
        return torch.concat([F.relu(self.expand1(x)), F.relu(self.expand3(x))], dim=1)


class SqueezeNet(nn.Module):
    def __init__(self, width: float = 1.0, depth: float = 1.0, classes: int = 1000) -> None:
        super().__init__()
        cin = scaled(64, width)
        layers: list[nn.Module] = [nn.Conv2d(3, cin, 3, 2), nn.ReLU()]
        for stage in ((16, 16), (32, 32), (48, 48, 64, 64)):
            layers.append(nn.MaxPool2d(3, stride=2, ceil_mode=True))
            for squeeze in stage[: repeats(len(stage), depth)]:
                expand = scaled(4 * squeeze, width)
                layers.append(Fire(cin, scaled(squeeze, width), expand))
                cin = 2 * expand
        self.features = nn.Sequential(*layers)
        self.dropout = nn.Dropout(0.5)
        self.classifier = nn.Conv2d(cin, classes, kernel_size=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.classifier(self.dropout(self.features(x))).relu_()
        return torch.flatten(F.adaptive_avg_pool2d(x, output_size=1), start_dim=1)


NETS = (
    Net(
        "squeezenet1_1",
        SqueezeNet,
        public={},
        tiny={"width": 0.25, "depth": 0.5, "classes": 10},
        tiny_size=(64, 64),
        published=Published(1_235_496, 349_000_000, (224, 224), TORCHVISION),
    ),
)
