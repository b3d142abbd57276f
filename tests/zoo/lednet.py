"""LEDNet, Wang et al. 2019, arXiv:1905.02423: split, filter apart, join, shuffle; attention over a
pyramid as decoder."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.zoo.blocks import conv_bn, repeats, scaled
from tests.zoo.zoo import Net


class _Down(nn.Module):
    def __init__(self, cin: int, cout: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(cin, cout - cin, 3, 2, 1)
        self.pool, self.norm = nn.MaxPool2d(2, 2), nn.BatchNorm2d(cout)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.norm(torch.cat([self.pool(x), self.conv(x)], dim=1)))


def _half(channels: int, rate: int, tall_first: bool) -> nn.Sequential:
    """3x1 and 1x3 convolutions, twice; the second pair dilated."""
    layers: list[nn.Module] = []
    for step in (1, rate):
        for tall in (tall_first, not tall_first):
            kernel, reach = ((3, 1), (step, 0)) if tall else ((1, 3), (0, step))
            layers.append(nn.Conv2d(channels, channels, kernel, 1, reach, (step, step)))
            layers += [nn.ReLU()] if tall is tall_first else [nn.BatchNorm2d(channels), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


class _SplitShuffle(nn.Module):
    """Each half of the channels is filtered in the other's order; then the halves are shuffled."""

    def __init__(self, channels: int, rate: int) -> None:
        super().__init__()
        half = channels // 2
        self.left, self.right = _half(half, rate, True), _half(half, rate, False)
        self.drop, self.shuffle = nn.Dropout2d(0.05), nn.ChannelShuffle(2)

    def forward(self, x: Tensor) -> Tensor:
        left, right = torch.chunk(x, 2, 1)
        y = torch.cat([self.left(left), self.right(right)], dim=1)
        y = torch.relu(self.drop(y).add(x))
        return self.shuffle(y)


class _Pyramid(nn.Module):
    """Weights from ever coarser looks at the features, times the features; plus their mean."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.down = nn.ModuleList(
            conv_bn(cin, 1, k, 2) for cin, k in ((channels, 7), (1, 5), (1, 3))
        )
        self.same = nn.ModuleList(conv_bn(1, 1, k) for k in (7, 5, 3))
        self.middle, self.mean = conv_bn(channels, classes), conv_bn(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        found = []
        y = x
        for down, same in zip(self.down, self.same, strict=True):
            y = down(y)
            found.append((y.shape[2:], same(y)))
        y = found[2][1]
        for size, other in (found[1], found[0]):
            y = F.interpolate(y, size, mode="bilinear", align_corners=True) + other
        y = F.interpolate(y, x.shape[2:], mode="bilinear", align_corners=True)
        mean = self.mean(x.mean((2, 3), keepdim=True)).expand(-1, -1, x.shape[2], x.shape[3])
        return torch.mul(self.middle(x), y) + mean


class LEDNet(nn.Module):
    def __init__(self, width: float = 1.0, depth: float = 1.0, classes: int = 20) -> None:
        super().__init__()
        c = [scaled(n, width) for n in (32, 64, 128)]
        layers: list[nn.Module] = [_Down(3, c[0])]
        layers += [_SplitShuffle(c[0], 1) for _ in range(repeats(3, depth))]
        layers.append(_Down(c[0], c[1]))
        layers += [_SplitShuffle(c[1], 1) for _ in range(repeats(2, depth))]
        layers.append(_Down(c[1], c[2]))
        rates = (1, 2, 5, 9, 2, 5, 9, 17)
        layers += [_SplitShuffle(c[2], rate) for rate in rates[: repeats(8, depth)]]
        self.layers, self.decoder = nn.Sequential(*layers), _Pyramid(c[2], classes)

    def forward(self, x: Tensor) -> Tensor:
        y = self.decoder(F.channel_shuffle(self.layers(x), 4))
        return F.interpolate(y, x.shape[2:], mode="bilinear", align_corners=True)


NETS = (Net("lednet", LEDNet, {}, {"width": 0.25, "depth": 0.25, "classes": 3}, (64, 64)),)
