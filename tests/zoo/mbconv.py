"""The inverted residual with its variations, and nets that are tables of it: MnasNet, Tan et al.
2018, arXiv:1807.11626; FBNet, Wu et al. 2018, arXiv:1812.03443; ProxylessNAS, Cai et al. 2018,
arXiv:1812.00332; EfficientNet, Tan and Le 2019, arXiv:1905.11946, and its Lite form (Liu 2020:
no gates, ReLU6, stem and head of one width); EfficientNetV2, Tan and Le 2021, arXiv:2104.00298.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import nn

from tests.zoo.blocks import conv_bn, repeats, scaled
from tests.zoo.zoo import PYTORCHCV, TIMM, TORCHVISION, Net, Published

Activation = Callable[[], nn.Module]


class Gate(nn.Module):
    """Squeeze and excitation by 1x1 convolutions."""

    def __init__(self, channels: int, squeezed: int, act: Activation) -> None:
        super().__init__()
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc1, self.fc2 = nn.Conv2d(channels, squeezed, 1), nn.Conv2d(squeezed, channels, 1)
        self.activation, self.scale = act(), nn.Sigmoid()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        gate = self.fc2(self.activation(self.fc1(self.avgpool(x))))
        return self.scale(gate) * x


class MBConv(nn.Module):
    """Expand by 1x1, filter each channel, gate if asked, project by 1x1; the sum with the input
    where shapes allow. expand 0: nothing is expanded. fused: expand and filter are one full
    convolution."""

    def __init__(
        self,
        cin: int,
        cout: int,
        kernel: int,
        stride: int,
        expand: int,
        act: Activation,
        gate: bool = False,
        fused: bool = False,
    ) -> None:
        super().__init__()
        hidden = cin * expand if expand else cin
        layers = []
        if fused and expand:
            layers.append(conv_bn(cin, hidden, kernel, stride, act=act))
        elif not fused:
            if expand:
                layers.append(conv_bn(cin, hidden, act=act))
            layers.append(conv_bn(hidden, hidden, kernel, stride, hidden, act=act))
        if gate:
            layers.append(Gate(hidden, max(1, cin // 4), act))
        if fused and not expand:
            layers.append(conv_bn(cin, cout, kernel, stride, act=act))
        else:
            layers.append(conv_bn(hidden, cout, act=None))
        self.block = nn.Sequential(*layers)
        self.residual = stride == 1 and cin == cout

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = self.block(x)
        if self.residual:
            out += x
        return out


class Row(NamedTuple):
    """`count` blocks of `channels`; the first one strides."""

    kernel: int
    channels: int
    expand: int
    stride: int
    count: int
    gate: bool = False
    fused: bool = False
    fixed: bool = False  # the depth factor leaves it alone (it may still shorten it)


class MBNet(nn.Module):
    """A stem, rows of inverted residuals, a 1x1 convolution, an average and a linear layer.

    ends: does the width factor reach stem and head as well?
    """

    def __init__(
        self,
        rows: Sequence[Row],
        stem: int = 32,
        head: int = 1280,
        act: Activation = nn.ReLU,
        width: float = 1.0,
        depth: float = 1.0,
        classes: int = 1000,
        ends: bool = True,
    ) -> None:
        super().__init__()
        cin = scaled(stem, width if ends else min(1.0, width))
        layers = [conv_bn(3, cin, 3, 2, act=act)]
        for row in rows:
            cout = scaled(row.channels, width)
            for i in range(repeats(row.count, min(1.0, depth) if row.fixed else depth)):
                stride = row.stride if i == 0 else 1
                layers.append(
                    MBConv(cin, cout, row.kernel, stride, row.expand, act, row.gate, row.fused)
                )
                cin = cout
        cout = scaled(head, min(1.0, width))
        self.features = nn.Sequential(*layers, conv_bn(cin, cout, act=act))
        self.pool = nn.AdaptiveAvgPool2d(output_size=1)
        self.classifier = nn.Sequential(nn.Flatten(), nn.Dropout(0.2), nn.Linear(cout, classes))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.pool(self.features(x)))


_MNASNET_B1 = (
    Row(3, 16, 0, 1, 1), Row(3, 24, 3, 2, 3), Row(5, 40, 3, 2, 3), Row(5, 80, 6, 2, 3),
    Row(3, 96, 6, 1, 2), Row(5, 192, 6, 2, 4), Row(3, 320, 6, 1, 1),
)  # fmt: skip
_MNASNET_A1 = (
    Row(3, 16, 0, 1, 1), Row(3, 24, 6, 2, 2), Row(5, 40, 3, 2, 3, True), Row(3, 80, 6, 2, 4),
    Row(3, 112, 6, 1, 2, True), Row(5, 160, 6, 2, 3, True), Row(3, 320, 6, 1, 1),
)  # fmt: skip
_FBNET_C = (
    Row(3, 16, 1, 1, 1), Row(3, 24, 6, 2, 1), Row(3, 24, 1, 1, 2), Row(5, 32, 6, 2, 1),
    Row(5, 32, 3, 1, 1), Row(5, 32, 6, 1, 1), Row(3, 32, 6, 1, 1), Row(5, 64, 6, 2, 1),
    Row(5, 64, 3, 1, 1), Row(5, 64, 6, 1, 2), Row(5, 112, 6, 1, 3), Row(5, 112, 3, 1, 1),
    Row(5, 184, 6, 2, 4), Row(3, 352, 6, 1, 1),
)  # fmt: skip
_PROXYLESS_MOBILE = (
    Row(3, 16, 0, 1, 1), Row(5, 32, 3, 2, 1), Row(3, 32, 3, 1, 1), Row(7, 40, 3, 2, 1),
    Row(3, 40, 3, 1, 1), Row(5, 40, 3, 1, 2), Row(7, 80, 6, 2, 1), Row(5, 80, 3, 1, 3),
    Row(5, 96, 6, 1, 1), Row(5, 96, 3, 1, 3), Row(7, 192, 6, 2, 2), Row(7, 192, 3, 1, 2),
    Row(7, 320, 6, 1, 1),
)  # fmt: skip
B0 = (
    Row(3, 16, 0, 1, 1, True), Row(3, 24, 6, 2, 2, True), Row(5, 40, 6, 2, 2, True),
    Row(3, 80, 6, 2, 3, True), Row(5, 112, 6, 1, 3, True), Row(5, 192, 6, 2, 4, True),
    Row(3, 320, 6, 1, 1, True),
)  # fmt: skip
_LITE = tuple(row._replace(gate=False, fixed=i in (0, 6)) for i, row in enumerate(B0))
_V2_S = (
    Row(3, 24, 0, 1, 2, fused=True), Row(3, 48, 4, 2, 4, fused=True),
    Row(3, 64, 4, 2, 4, fused=True), Row(3, 128, 4, 2, 6, True), Row(3, 160, 6, 1, 9, True),
    Row(3, 256, 6, 2, 15, True),
)  # fmt: skip

_SIZE = (224, 224)
_lite = partial(MBNet, _LITE, act=nn.ReLU6, ends=False)


def _tiny(width: float = 0.25, depth: float = 0.1) -> dict[str, float]:
    return {"width": width, "depth": depth, "classes": 10}


NETS = (
    Net(
        "mnasnet_b1",
        partial(MBNet, _MNASNET_B1),
        public={},
        tiny=_tiny(),
        tiny_size=(32, 32),
        published=Published(4_383_312, 314_000_000, _SIZE, TORCHVISION),
    ),
    Net(
        "mnasnet_a1",
        partial(MBNet, _MNASNET_A1),
        public={},
        tiny=_tiny(),
        tiny_size=(32, 32),
        published=Published(3_887_038, None, _SIZE, PYTORCHCV),
    ),
    Net(
        "fbnet_c",
        partial(MBNet, _FBNET_C, stem=16, head=1984),
        public={},
        tiny=_tiny(),
        tiny_size=(32, 32),
        published=Published(5_572_200, None, _SIZE, PYTORCHCV),
    ),
    Net(
        "proxylessnas_mobile",
        partial(MBNet, _PROXYLESS_MOBILE, act=partial(nn.ReLU6, inplace=True)),
        public={},
        tiny=_tiny(),
        tiny_size=(32, 32),
        published=Published(4_080_512, None, _SIZE, PYTORCHCV),
    ),
    Net(
        "efficientnet_b0",
        partial(MBNet, B0, act=nn.SiLU),
        public={},
        tiny=_tiny(),
        tiny_size=(32, 32),
        published=Published(5_288_548, 386_000_000, _SIZE, TORCHVISION),
    ),
    Net(
        "efficientnet_lite0",
        _lite,
        public={},
        tiny=_tiny(),
        tiny_size=(32, 32),
        published=Published(4_650_000, None, _SIZE, TIMM),
    ),
    Net(
        "efficientnet_lite1",
        _lite,
        public={"depth": 1.1},
        tiny=_tiny(depth=0.3),
        tiny_size=(32, 32),
        published=Published(5_420_000, None, (240, 240), TIMM),
    ),
    Net(
        "efficientnet_lite2",
        _lite,
        public={"width": 1.1, "depth": 1.2},
        tiny=_tiny(0.3),
        tiny_size=(32, 32),
        published=Published(6_090_000, None, (260, 260), TIMM),
    ),
    Net(
        "efficientnet_lite3",
        _lite,
        public={"width": 1.2, "depth": 1.4},
        tiny=_tiny(0.4),
        tiny_size=(32, 32),
        published=Published(8_200_000, None, (300, 300), TIMM),
    ),
    Net(
        "efficientnet_lite4",
        _lite,
        public={"width": 1.4, "depth": 1.8},
        tiny=_tiny(0.5),
        tiny_size=(32, 32),
        published=Published(13_010_000, None, (380, 380), TIMM),
    ),
    Net(
        "efficientnet_v2_s",
        partial(MBNet, _V2_S, stem=24, act=partial(nn.SiLU, inplace=True)),
        public={},
        tiny=_tiny(),
        tiny_size=(32, 32),
        published=Published(21_458_488, 8_366_000_000, (384, 384), TORCHVISION),
    ),
)
