"""DenseNet-121, Huang et al. 2016, arXiv:1608.06993, table 1: batch norms stand behind
concatenations, where no convolution can take them in."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from tests.zoo.blocks import conv_bn, repeats, scaled
from tests.zoo.zoo import TORCHVISION, Net, Published


class DenseLayer(nn.Module):
    """bn-relu-conv1x1-bn-relu-conv3x3 on everything so far."""

    def __init__(self, cin: int, growth: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = nn.BatchNorm2d(cin), nn.Conv2d(cin, 4 * growth, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(4 * growth)
        self.conv2 = nn.Conv2d(4 * growth, growth, 3, padding=1, bias=False)

    def forward(self, features: list[torch.Tensor]) -> torch.Tensor:
        x = self.norm1(torch.cat(features, 1))
        return self.conv2(torch.relu(self.norm2(self.conv1(torch.relu(x)))))


class DenseBlock(nn.Module):
    def __init__(self, cin: int, growth: int, layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(DenseLayer(cin + i * growth, growth) for i in range(layers))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        features = [x]
        for layer in self.layers:
            features.append(layer(features))
        return torch.cat(features, dim=1)


class DenseNet(nn.Module):
    def __init__(
        self,
        blocks: tuple[int, int, int, int] = (6, 12, 24, 16),
        growth: int = 32,
        width: float = 1.0,
        depth: float = 1.0,
        classes: int = 1000,
    ) -> None:
        super().__init__()
        growth, channels = scaled(growth, width), scaled(2 * growth, width)
        self.features = nn.Sequential(conv_bn(3, channels, 7, 2), nn.MaxPool2d(3, 2, 1))
        for i, count in enumerate(blocks):
            layers = repeats(count, depth)
            self.features.append(DenseBlock(channels, growth, layers))
            channels += layers * growth
            self.features.append(nn.BatchNorm2d(channels))
            if i < len(blocks) - 1:
                transition = [nn.ReLU(), nn.Conv2d(channels, channels // 2, 1, bias=False)]
                self.features.extend([*transition, nn.AvgPool2d(2, 2)])
                channels //= 2
        self.classifier = nn.Linear(channels, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu_(self.features(x))
        return self.classifier(F.adaptive_avg_pool2d(x, (1, 1)).flatten(1))


NETS = (
    Net(
        "densenet121",
        DenseNet,
        public={},
        tiny={"width": 0.25, "depth": 0.05, "classes": 10},
        tiny_size=(32, 32),
        published=Published(7_978_856, 2_834_000_000, (224, 224), TORCHVISION),
    ),
)
