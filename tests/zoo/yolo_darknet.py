"""YOLO as Darknet configures it: routes, upsampling, CSP stages, leaky relu, mish.

YOLOv3-tiny and YOLOv4-tiny: the cfg files of Darknet. YOLOv4: Bochkovskiy et al. 2020,
arXiv:2004.10934 (CSPDarknet53, SPP, PAN).
"""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from torch import nn

from tests.zoo.blocks import conv_bn, repeats, scaled
from tests.zoo.zoo import Net, Published

_LEAKY = partial(nn.LeakyReLU, 0.1, inplace=True)


class Mish(nn.Module):
    """x * tanh(softplus(x)), Misra 2019."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * F.softplus(x).tanh()


class MishOfModules(nn.Module):
    """Mish as ports of Darknet spell it that were made to be hooked and fused."""

    def __init__(self) -> None:
        super().__init__()
        self.softplus, self.tanh = nn.Softplus(), nn.Tanh()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.tanh(self.softplus(x))


def _conv(cin: int, cout: int, kernel: int = 1, stride: int = 1) -> nn.Sequential:
    return conv_bn(cin, cout, kernel, stride, act=_LEAKY)


class YOLOv3Tiny(nn.Module):
    """Convolutions and max pools; two heads, the finer one behind a route and an upsampling."""

    def __init__(self, width: float = 1.0, depth: float = 1.0, classes: int = 80) -> None:
        super().__init__()
        c = [scaled(16 * 2**i, width) for i in range(7)]
        outputs = 3 * (5 + classes)
        self.stem = nn.ModuleList(
            [_conv(cin, cout, 3) for cin, cout in zip((3, *c[:4]), c[:5], strict=True)]
        )
        self.deeper = _conv(c[4], c[5], 3)
        self.pad = nn.ZeroPad2d((0, 1, 0, 1))
        self.deepest = nn.Sequential(
            *(_conv(c[5] if i == 0 else c[6], c[6], 3) for i in range(repeats(1, depth))),
            _conv(c[6], c[4]),
        )
        self.coarse = nn.Sequential(_conv(c[4], c[5], 3), nn.Conv2d(c[5], outputs, 1))
        self.route = _conv(c[4], c[3])
        self.fine = nn.Sequential(_conv(c[3] + c[4], c[4], 3), nn.Conv2d(c[4], outputs, 1))

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        for i, stage in enumerate(self.stem):
            x = stage(x if i == 0 else F.max_pool2d(x, 2, 2))
        kept = x
        x = self.deeper(F.max_pool2d(x, 2, 2))
        x = self.deepest(F.max_pool2d(self.pad(x), 2, 1))
        up = F.interpolate(self.route(x), scale_factor=2)
        return [self.coarse(x), self.fine(torch.cat((up, kept), 1))]


class _HalfCSP(nn.Module):
    """YOLOv4-tiny's stage: half of the channels go through two convolutions."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.first = _conv(channels, channels, 3)
        self.second = _conv(half, half, 3)
        self.third = _conv(half, half, 3)
        self.join = _conv(channels, channels)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = self.first(x)
        part = self.second(torch.chunk(x, 2, dim=1)[1])
        joined = self.join(torch.cat([self.third(part), part], dim=1))
        return joined, F.max_pool2d(torch.cat([x, joined], dim=1), 2)


class YOLOv4Tiny(nn.Module):
    """Three half-CSP stages and two heads."""

    def __init__(self, width: float = 1.0, depth: float = 1.0, classes: int = 80) -> None:
        super().__init__()
        c = [scaled(32 * 2**i, width, 16) for i in range(5)]
        outputs = 3 * (5 + classes)
        self.stem = nn.Sequential(_conv(3, c[0], 3, 2), _conv(c[0], c[1], 3, 2))
        self.stages = nn.ModuleList([_HalfCSP(c[1]), _HalfCSP(2 * c[1]), _HalfCSP(4 * c[1])])
        last = 8 * c[1]
        self.deep = nn.Sequential(
            *(_conv(last, last, 3) for _ in range(repeats(1, depth))), _conv(last, c[3])
        )
        self.coarse = nn.Sequential(_conv(c[3], last, 3), nn.Conv2d(last, outputs, 1))
        self.route = nn.Sequential(_conv(c[3], c[2]), nn.UpsamplingNearest2d(scale_factor=2))
        self.fine = nn.Sequential(_conv(c[2] + 4 * c[1], c[3], 3), nn.Conv2d(c[3], outputs, 1))

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        x, kept = self.stem(x), x
        for stage in self.stages:
            kept, x = stage(x)
        x = self.deep(x)
        return [self.coarse(x), self.fine(torch.concat([self.route(x), kept], dim=1))]


class _Residual(nn.Module):
    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.first = conv_bn(channels, hidden, act=Mish)
        self.second = conv_bn(hidden, channels, 3, act=Mish)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.add(self.second(self.first(x)))


class _CSP(nn.Module):
    """CSPDarknet53's stage; the first one splits without halving the channels."""

    def __init__(self, cin: int, cout: int, blocks: int, first: bool) -> None:
        super().__init__()
        half = cout if first else cout // 2
        hidden = cout // 2
        self.down = conv_bn(cin, cout, 3, 2, act=Mish)
        self.aside = conv_bn(cout, half, act=Mish)
        self.into = conv_bn(cout, half, act=Mish)
        self.blocks = nn.Sequential(*(_Residual(half, hidden) for _ in range(blocks)))
        self.after = conv_bn(half, half, act=Mish)
        self.join = conv_bn(2 * half, cout, act=MishOfModules)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.down(x)
        return self.join(torch.cat([self.after(self.blocks(self.into(x))), self.aside(x)], 1))


def _five(cin: int, channels: int) -> nn.Sequential:
    return nn.Sequential(
        _conv(cin, channels), _conv(channels, 2 * channels, 3), _conv(2 * channels, channels),
        _conv(channels, 2 * channels, 3), _conv(2 * channels, channels),
    )  # fmt: skip


class YOLOv4(nn.Module):
    """CSPDarknet53, SPP, a path aggregation neck of five convolutions each, three heads."""

    def __init__(self, width: float = 1.0, depth: float = 1.0, classes: int = 80) -> None:
        super().__init__()
        c = [scaled(32 * 2**i, width) for i in range(6)]
        blocks = [repeats(n, depth) for n in (1, 2, 8, 8, 4)]
        self.stem = conv_bn(3, c[0], 3, act=Mish)
        self.stages = nn.ModuleList([_CSP(c[i], c[i + 1], blocks[i], i == 0) for i in range(5)])
        p5, p4, p3 = c[4], c[3], c[2]
        self.before = nn.Sequential(_conv(c[5], p5), _conv(p5, c[5], 3), _conv(c[5], p5))
        self.pools = nn.ModuleList([nn.MaxPool2d(k, 1, k // 2) for k in (13, 9, 5)])
        self.after = nn.Sequential(_conv(4 * p5, p5), _conv(p5, c[5], 3), _conv(c[5], p5))
        self.up5 = nn.Sequential(_conv(p5, p4), nn.Upsample(scale_factor=2))
        self.side4, self.td4 = _conv(c[4], p4), _five(2 * p4, p4)
        self.up4 = nn.Sequential(_conv(p4, p3), nn.Upsample(scale_factor=2))
        self.side3, self.td3 = _conv(c[3], p3), _five(2 * p3, p3)
        self.down3, self.bu4 = _conv(p3, p4, 3, 2), _five(2 * p4, p4)
        self.down4, self.bu5 = _conv(p4, p5, 3, 2), _five(2 * p5, p5)
        self.heads = nn.ModuleList(
            nn.Sequential(_conv(n, 2 * n, 3), nn.Conv2d(2 * n, 3 * (5 + classes), 1))
            for n in (p3, p4, p5)
        )

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        x = self.stem(x)
        kept = []
        for stage in self.stages:
            x = stage(x)
            kept.append(x)
        x = self.before(x)
        n5 = self.after(torch.cat([*(pool(x) for pool in self.pools), x], 1))
        n4 = self.td4(torch.cat([self.side4(kept[3]), self.up5(n5)], 1))
        n3 = self.td3(torch.cat([self.side3(kept[2]), self.up4(n4)], 1))
        n4 = self.bu4(torch.cat([self.down3(n3), n4], 1))
        n5 = self.bu5(torch.cat([self.down4(n4), n5], 1))
        return [head(n) for head, n in zip(self.heads, (n3, n4, n5), strict=True)]


_DARKNET = "github.com/AlexeyAB/darknet; half of its BFLOPs"
NETS = (
    Net(
        "yolov3_tiny", YOLOv3Tiny, {}, {"width": 0.125, "classes": 3}, (64, 64),
        Published(None, 2_780_000_000, (416, 416), _DARKNET),
    ),
    Net(
        "yolov4_tiny", YOLOv4Tiny, {}, {"width": 0.25, "classes": 3}, (64, 64),
        Published(None, 3_450_000_000, (416, 416), _DARKNET),
    ),
    Net(
        "yolov4", YOLOv4, {}, {"width": 0.25, "depth": 0.1, "classes": 3}, (64, 64),
        Published(None, 64_250_000_000, (608, 608), _DARKNET),
    ),
)  # fmt: skip
