"""Segmentation in real time: BiSeNetV2 (arXiv:2004.02147), Fast-SCNN (arXiv:1902.04502), ENet
(arXiv:1606.02147)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.zoo.blocks import conv_bn, repeats, scaled
from tests.zoo.zoo import Net


class _Gather(nn.Module):
    """BiSeNetV2's gather-and-expand layer."""

    def __init__(self, cin: int, cout: int, stride: int) -> None:
        super().__init__()
        inner = 6 * cin
        self.conv = conv_bn(cin, cin, 3)
        depthwise = [
            conv_bn(cin, inner, 3, stride, groups=cin, act=None if stride == 2 else nn.ReLU)
        ]
        if stride == 2:
            depthwise.append(conv_bn(inner, inner, 3, groups=inner))
        self.depthwise = nn.Sequential(*depthwise)
        self.project = conv_bn(inner, cout, act=None)
        aside = [conv_bn(cin, cin, 3, 2, groups=cin, act=None), conv_bn(cin, cout, act=None)]
        self.aside = nn.Sequential(*aside) if stride == 2 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y = self.project(self.depthwise(self.conv(x)))
        return torch.relu(torch.add(y, self.aside(x)))


class BiSeNetV2(nn.Module):
    """A wide shallow branch for detail, a narrow deep one for meaning; each gates the other."""

    def __init__(self, width: float = 1.0, depth: float = 1.0, classes: int = 19) -> None:
        super().__init__()
        d, c = (
            [scaled(n, width) for n in (64, 64, 128)],
            [scaled(n, width) for n in (16, 32, 64, 128)],
        )
        n = repeats(2, depth)
        detail: list[nn.Module] = []
        for cin, cout, count in zip((3, *d[:2]), d, (1, n, n), strict=True):
            detail.append(conv_bn(cin, cout, 3, 2))
            detail += [conv_bn(cout, cout, 3) for _ in range(count)]
        self.detail = nn.Sequential(*detail)
        self.stem = conv_bn(3, c[0], 3, 2)
        self.stem_left = nn.Sequential(conv_bn(c[0], c[0] // 2), conv_bn(c[0] // 2, c[0], 3, 2))
        self.stem_pool = nn.MaxPool2d(3, 2, 1, ceil_mode=False)
        self.stem_join = conv_bn(2 * c[0], c[0], 3)
        deep: list[nn.Module] = []
        for cin, cout, count in zip(c[:3], c[1:], (1, 1, repeats(3, depth)), strict=True):
            deep += [_Gather(cin, cout, 2), *(_Gather(cout, cout, 1) for _ in range(count))]
        self.deep = nn.Sequential(*deep)
        last = c[3]
        self.context_norm = nn.BatchNorm2d(last)
        self.context, self.after = conv_bn(last, last), conv_bn(last, last, 3)
        self.detail_keep = nn.Sequential(
            conv_bn(last, last, 3, groups=last, act=None), nn.Conv2d(last, last, 1, bias=False)
        )
        self.detail_down = nn.Sequential(
            conv_bn(last, last, 3, 2, act=None), nn.AvgPool2d(3, 2, 1, count_include_pad=False)
        )
        self.deep_up = conv_bn(last, last, 3, act=None)
        self.deep_keep = nn.Sequential(
            conv_bn(last, last, 3, groups=last, act=None), nn.Conv2d(last, last, 1, bias=False)
        )
        self.join = conv_bn(last, last, 3, act=None)
        self.head = nn.Sequential(
            conv_bn(last, 8 * last, 3), nn.Dropout(0.1), nn.Conv2d(8 * last, classes, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        detail = self.detail(x)
        y = self.stem(x)
        y = self.deep(self.stem_join(torch.cat([self.stem_left(y), self.stem_pool(y)], dim=1)))
        mean = self.context_norm(torch.mean(y, dim=(2, 3), keepdim=True))
        y = self.after(y + self.context(mean))
        up = F.interpolate(self.deep_up(y), scale_factor=4, mode="bilinear", align_corners=False)
        left = torch.mul(self.detail_keep(detail), torch.sigmoid(up))
        right = torch.mul(self.detail_down(detail), self.deep_keep(y).sigmoid())
        right = F.interpolate(right, scale_factor=4, mode="bilinear", align_corners=False)
        y = self.head(self.join(left.add_(right)))
        return F.interpolate(y, scale_factor=8, mode="bilinear", align_corners=False)


def _separable(cin: int, cout: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(conv_bn(cin, cin, 3, stride, groups=cin), conv_bn(cin, cout))


class _Bottleneck(nn.Module):
    """MobileNetV2's."""

    def __init__(self, cin: int, cout: int, stride: int) -> None:
        super().__init__()
        inner = 6 * cin
        self.layers = nn.Sequential(
            conv_bn(cin, inner), conv_bn(inner, inner, 3, stride, groups=inner),
            conv_bn(inner, cout, act=None),
        )  # fmt: skip
        self.shortcut = stride == 1 and cin == cout

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x) if self.shortcut else self.layers(x)


class FastSCNN(nn.Module):
    """One short stem; its output joins that of a deep branch at a quarter of the size."""

    def __init__(self, width: float = 1.0, depth: float = 1.0, classes: int = 19) -> None:
        super().__init__()
        c = [scaled(n, width) for n in (32, 48, 64, 96, 128)]
        self.stem = nn.Sequential(
            conv_bn(3, c[0], 3, 2), _separable(c[0], c[1], 2), _separable(c[1], c[2], 2)
        )
        deep: list[nn.Module] = []
        for cin, cout, stride in ((c[2], c[2], 2), (c[2], c[3], 2), (c[3], c[4], 1)):
            deep.append(_Bottleneck(cin, cout, stride))
            deep += [_Bottleneck(cout, cout, 1) for _ in range(repeats(3, depth) - 1)]
        self.deep = nn.Sequential(*deep)
        self.grids = (1, 2, 3, 6)
        self.pools = nn.ModuleList(
            nn.Sequential(nn.AdaptiveAvgPool2d(grid), conv_bn(c[4], c[4] // 4))
            for grid in self.grids
        )
        self.pooled = conv_bn(2 * c[4], c[4])
        self.low = conv_bn(c[4], c[4], 3, groups=c[4], dilation=4)
        self.low_join = nn.Conv2d(c[4], c[4], 1)
        self.high_join = nn.Conv2d(c[2], c[4], 1)
        self.norms = nn.ModuleList(nn.BatchNorm2d(c[4]) for _ in range(2))
        self.head = nn.Sequential(
            _separable(c[4], c[4]),
            _separable(c[4], c[4]),
            nn.Dropout(0.1),
            nn.Conv2d(c[4], classes, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        high = self.stem(x)
        low = self.deep(high)
        size = low.shape[2:]
        means = [
            F.interpolate(pool(low), size, mode="bilinear", align_corners=True)
            for pool in self.pools
        ]
        low = self.pooled(torch.cat([low, *means], 1))
        low = F.interpolate(low, scale_factor=4.0, mode="bilinear", align_corners=True)
        low = self.norms[0](self.low_join(self.low(low)))
        y = low.add(self.norms[1](self.high_join(high))).relu()
        y = self.head(y)
        return F.interpolate(y, size=x.size()[2:], mode="bilinear", align_corners=True)


class _ENetBlock(nn.Module):
    """A bottleneck with a rectifier of learned slope. kind: plain, dilated (by `rate`),
    asymmetric, down, or up (by repeating pixels, where the paper unpools)."""

    def __init__(self, cin: int, cout: int, kind: str = "plain", rate: int = 1) -> None:
        super().__init__()
        inner = max(cin // 4, 4)
        self.kind, self.grow = kind, cout - cin
        first = nn.Conv2d(cin, inner, 2, 2, bias=False) if kind == "down" else None
        self.reduce = nn.Sequential(
            first or nn.Conv2d(cin, inner, 1, bias=False), nn.BatchNorm2d(inner), nn.PReLU(inner)
        )
        if kind == "asymmetric":
            spatial: list[nn.Module] = [
                nn.Conv2d(inner, inner, (5, 1), padding=(2, 0), bias=False),
                nn.Conv2d(inner, inner, (1, 5), padding=(0, 2), bias=False),
            ]
        elif kind == "up":
            spatial = [nn.ConvTranspose2d(inner, inner, 3, 2, 1, 1, bias=False)]
        else:
            spatial = [nn.Conv2d(inner, inner, 3, 1, rate, rate, bias=False)]
        self.spatial = nn.Sequential(*spatial, nn.BatchNorm2d(inner), nn.PReLU(inner))
        self.expand = conv_bn(inner, cout, act=None)
        self.aside = conv_bn(cin, cout, act=None) if kind == "up" else None
        self.slope = nn.Parameter(torch.full((cout,), 0.25))

    def forward(self, x: Tensor) -> Tensor:
        y = F.dropout2d(self.expand(self.spatial(self.reduce(x))), 0.01, self.training)
        if self.kind == "down":
            x = F.pad(F.max_pool2d(x, 2, 2), (0, 0, 0, 0, 0, self.grow))
        elif self.aside is not None:
            x = F.interpolate(self.aside(x), scale_factor=2)
        return F.prelu(torch.add(x, y), self.slope)


class ENet(nn.Module):
    """Early downsampling, dilated and asymmetric bottlenecks, a small decoder."""

    def __init__(self, width: float = 1.0, depth: float = 1.0, classes: int = 19) -> None:
        super().__init__()
        first, low, high = (scaled(n, width) for n in (16, 64, 128))
        self.stem = nn.Conv2d(3, first - 3, 3, 2, 1, bias=False)
        self.stem_norm, self.stem_act = nn.BatchNorm2d(first), nn.PReLU()
        layers: list[nn.Module] = [_ENetBlock(first, low, "down")]
        layers += [_ENetBlock(low, low) for _ in range(repeats(4, depth))]
        layers.append(_ENetBlock(low, high, "down"))
        for _ in range(repeats(2, depth)):
            for rate in (2, 4, 8, 16):
                layers.append(_ENetBlock(high, high, "asymmetric" if rate in (4, 16) else "plain"))
                layers.append(_ENetBlock(high, high, "dilated", rate))
        layers += [_ENetBlock(high, low, "up"), _ENetBlock(low, low), _ENetBlock(low, first, "up")]
        self.layers = nn.Sequential(*layers, _ENetBlock(first, first))
        self.head = nn.ConvTranspose2d(first, classes, 3, 2, 1, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat((self.stem(x), torch.max_pool2d(x, 2, stride=2)), dim=1)
        return self.head(self.layers(self.stem_act(self.stem_norm(x))))


NETS = (
    Net("bisenet_v2", BiSeNetV2, {}, {"width": 0.25, "depth": 0.5, "classes": 3}, (64, 64)),
    Net("fast_scnn", FastSCNN, {}, {"width": 0.25, "depth": 0.34, "classes": 3}, (192, 192)),
    Net("enet", ENet, {}, {"width": 0.5, "depth": 0.25, "classes": 3}, (64, 64)),
)
