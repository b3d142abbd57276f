"""HarDNet-68, Chao et al. 2019, arXiv:1909.00948: a layer takes the layers at distances 1, 2, 4,
... that divide its number."""

from __future__ import annotations

from functools import partial

import torch
from torch import nn

from tests.zoo.blocks import conv_bn, repeats, scaled
from tests.zoo.zoo import PYTORCHCV, Net, Published

_conv = partial(conv_bn, act=partial(nn.ReLU6, inplace=True))


class HarmonicBlock(nn.Module):
    """`layers` convolutions; a layer has growth * multiplier^(number of its further links)
    channels. The odd ones and the last one go out."""

    def __init__(self, cin: int, growth: int, layers: int, multiplier: float = 1.7) -> None:
        super().__init__()
        channels = [cin]
        self.links, self.layers = [], nn.ModuleList()
        for layer in range(1, layers + 1):
            links = [layer - 2**i for i in range(10) if layer % 2**i == 0]
            cout = float(growth)
            for _ in links[1:]:
                cout *= multiplier
            channels.append(int(int(cout + 1) / 2) * 2)
            self.layers.append(_conv(sum(channels[k] for k in links), channels[-1], 3))
            self.links.append(links)
        self.outputs = [i for i in range(1, layers + 1) if i == layers or i % 2 == 1]
        self.cout = sum(channels[i] for i in self.outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        outputs = [x]
        for layer, links in zip(self.layers, self.links, strict=True):
            inputs = [outputs[k] for k in links]
            outputs.append(layer(inputs[0] if len(inputs) == 1 else torch.cat(inputs, 1)))
        return torch.cat([outputs[i] for i in self.outputs], 1)


class HarDNet(nn.Module):
    #: growth, layers, channels behind, max pool behind
    TABLE = (
        (14, 8, 128, True), (16, 16, 256, False), (20, 16, 320, True), (40, 16, 640, True),
        (160, 4, 1024, False),
    )  # fmt: skip

    def __init__(self, width: float = 1.0, depth: float = 1.0, classes: int = 1000) -> None:
        super().__init__()
        c32, cin = scaled(32, width), scaled(64, width)
        self.base = nn.Sequential(_conv(3, c32, 3, 2), _conv(c32, cin, 3), nn.MaxPool2d(3, 2, 1))
        for growth, layers, channels, pool in self.TABLE:
            block = HarmonicBlock(cin, scaled(growth, width, 2), repeats(layers, depth))
            cin = scaled(channels, width)
            self.base.extend([block, _conv(block.cout, cin)])
            if pool:
                self.base.append(nn.MaxPool2d(2))
        self.classifier = nn.Sequential(
            nn.AdaptiveAvgPool2d((1, 1)), nn.Flatten(), nn.Dropout(0.1), nn.Linear(cin, classes)
        )  # fmt: skip

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.base(x))


NETS = (
    Net(
        "hardnet68",
        HarDNet,
        public={},
        tiny={"width": 0.25, "depth": 0.25, "classes": 10},
        tiny_size=(64, 64),
        published=Published(17_565_348, 4_256_320_000, (224, 224), PYTORCHCV),
    ),
)
