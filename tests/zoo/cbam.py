"""ResNet-18 with CBAM, Woo et al. 2018, arXiv:1807.06521: attention to channels, then to places."""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.zoo.blocks import conv_bn, repeats, scaled
from tests.zoo.zoo import Net, Published


class CBAM(nn.Module):
    """Means and maxima through one small net; then the mean and the maximum of all channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.shrink = nn.Linear(channels, max(channels // 16, 4))
        self.grow = nn.Linear(max(channels // 16, 4), channels)
        self.maximum = nn.AdaptiveMaxPool2d(1)
        self.place = conv_bn(2, 1, 7, act=None)

    def _gate(self, x: Tensor) -> Tensor:
        return self.grow(self.shrink(x.flatten(1)).relu())

    def forward(self, x: Tensor) -> Tensor:
        gate = torch.sigmoid_(self._gate(F.adaptive_avg_pool2d(x, 1)) + self._gate(self.maximum(x)))
        x = gate.unsqueeze(2).unsqueeze(3).expand_as(x) * x
        most, _ = torch.max(x, dim=1, keepdim=True)
        both = torch.cat((most, torch.mean(x, 1, keepdim=True)), dim=1)
        return x * torch.sigmoid(self.place(both))


class _Block(nn.Module):
    def __init__(self, cin: int, cout: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = conv_bn(cin, cout, 3, stride), conv_bn(cout, cout, 3, act=None)
        self.attention = CBAM(cout)
        same = stride == 1 and cin == cout
        self.downsample = nn.Identity() if same else conv_bn(cin, cout, 1, stride, act=None)

    def forward(self, x: Tensor) -> Tensor:
        y = self.attention(self.conv2(self.conv1(x)))
        y += self.downsample(x)
        return y.relu_()


class ResNetCBAM(nn.Module):
    def __init__(self, width: float = 1.0, depth: float = 1.0, classes: int = 1000) -> None:
        super().__init__()
        c = [scaled(n, width) for n in (64, 64, 128, 256, 512)]
        layers: list[nn.Module] = [conv_bn(3, c[0], 7, 2), nn.MaxPool2d(3, 2, padding=1)]
        for i, (cin, cout) in enumerate(itertools.pairwise(c)):
            strides = [2 if i else 1] + [1] * (repeats(2, depth) - 1)
            layers += [_Block(cout if j else cin, cout, s) for j, s in enumerate(strides)]
        self.layers = nn.Sequential(*layers)
        self.head = nn.Linear(c[4], classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layers(x)
        return self.head(F.avg_pool2d(x, x.shape[-1]).squeeze(3).squeeze(2))


NETS = (
    Net(
        "resnet18_cbam", ResNetCBAM, {}, {"width": 0.125, "depth": 0.5, "classes": 10}, (64, 64),
        Published(11_780_000, None, (224, 224), "arXiv:1807.06521, table 4"),
    ),
)  # fmt: skip
