"""VoVNet-39, Lee et al. 2019, arXiv:1904.09730: one-shot aggregation."""

from __future__ import annotations

import torch
from torch import nn

from tests.zoo.blocks import conv_bn, repeats, scaled
from tests.zoo.zoo import PYTORCHCV, Net, Published


class OneShotAggregation(nn.Module):
    """Five convolutions in a row, all their results and the input concatenated once."""

    def __init__(self, cin: int, inner: int, cout: int, residual: bool) -> None:
        super().__init__()
        self.layers = nn.ModuleList(conv_bn(inner if i else cin, inner, 3) for i in range(5))
        self.aggregate = conv_bn(cin + 5 * inner, cout)
        self.residual = residual

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        outputs = [x]
        for layer in self.layers:
            outputs.append(layer(outputs[-1]))
        out = self.aggregate(torch.cat(outputs, dim=1))
        return torch.add(out, x) if self.residual else out


class VoVNet(nn.Module):
    #: channels of the five convolutions, channels behind, blocks
    TABLE = ((128, 256, 1), (160, 512, 1), (192, 768, 2), (224, 1024, 2))

    def __init__(self, width: float = 1.0, depth: float = 1.0, classes: int = 1000) -> None:
        super().__init__()
        c64, cin = scaled(64, width), scaled(128, width)
        layers = [conv_bn(3, c64, 3, 2), conv_bn(c64, c64, 3), conv_bn(c64, cin, 3, 2)]
        for i, (channels, wide, count) in enumerate(self.TABLE):
            if i > 0:
                layers.append(nn.MaxPool2d(3, 2, ceil_mode=True))
            cout = scaled(wide, width)
            for j in range(repeats(count, depth)):
                layers.append(OneShotAggregation(cin, scaled(channels, width), cout, j > 0))
                cin = cout
        self.features = nn.Sequential(*layers)
        self.gap = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(cin, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.gap(self.features(x)).flatten(1))


NETS = (
    Net(
        "vovnet39",
        VoVNet,
        public={},
        tiny={"width": 0.125, "classes": 10},
        tiny_size=(64, 64),
        published=Published(22_600_296, 7_086_160_000, (224, 224), PYTORCHCV),
    ),
)
