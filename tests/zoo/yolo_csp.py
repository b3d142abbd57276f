"""YOLO with CSP stages and SiLU: v5 (C3, SPPF), v8 (C2f, distribution heads), YOLOX (focus,
decoupled heads).

Figures: the yaml files of github.com/ultralytics (release 6.x for v5) and Ge et al. 2021,
arXiv:2107.08430.
"""

from __future__ import annotations

import itertools
import math
from functools import partial

import torch
from torch import nn
from torch.nn import functional

from tests.zoo.blocks import conv_bn
from tests.zoo.zoo import Net, Published

_SILU = partial(nn.SiLU, inplace=True)


def _wide(channels: int, width: float) -> int:
    return math.ceil(channels * width / 8) * 8


def _deep(blocks: int, depth: float) -> int:
    return max(round(blocks * depth), 1)


def _conv(cin: int, cout: int, kernel: int = 1, stride: int = 1) -> nn.Sequential:
    return conv_bn(cin, cout, kernel, stride, act=_SILU, eps=1e-3)


class _Bottleneck(nn.Module):
    def __init__(self, channels: int, kernel: int, shortcut: bool) -> None:
        super().__init__()
        self.first, self.second = _conv(channels, channels, kernel), _conv(channels, channels, 3)
        self.shortcut = shortcut

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.second(self.first(x))
        return x + y if self.shortcut else y


class _C3(nn.Module):
    """CSP with three convolutions."""

    def __init__(self, cin: int, cout: int, blocks: int, shortcut: bool = True) -> None:
        super().__init__()
        half = cout // 2
        self.into, self.aside = _conv(cin, half), _conv(cin, half)
        self.blocks = nn.Sequential(*(_Bottleneck(half, 1, shortcut) for _ in range(blocks)))
        self.join = _conv(2 * half, cout)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.join(torch.cat((self.blocks(self.into(x)), self.aside(x)), dim=1))


class _C2f(nn.Module):
    """CSP whose every block's output is kept."""

    def __init__(self, cin: int, cout: int, blocks: int, shortcut: bool = True) -> None:
        super().__init__()
        half = cout // 2
        self.into = _conv(cin, 2 * half)
        self.blocks = nn.ModuleList(_Bottleneck(half, 3, shortcut) for _ in range(blocks))
        self.join = _conv((2 + blocks) * half, cout)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        parts = list(self.into(x).chunk(2, 1))
        for block in self.blocks:
            parts.append(block(parts[-1]))
        return self.join(torch.cat(parts, 1))


class _SPPF(nn.Module):
    """Three 5x5 max pools in a row."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.into, self.join = _conv(channels, half), _conv(4 * half, channels)
        self.pool = nn.MaxPool2d(kernel_size=5, stride=1, padding=2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        parts = [self.into(x)]
        for _ in range(3):
            parts.append(self.pool(parts[-1]))
        return self.join(torch.cat(parts, 1))


class _SPP(nn.Module):
    """Max pools of 5, 9 and 13 beside each other."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.into, self.join = _conv(channels, half), _conv(4 * half, channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.into(x)
        pooled = [functional.max_pool2d(x, k, 1, k // 2) for k in (5, 9, 13)]
        return self.join(torch.cat([x, *pooled], dim=1))


class _Focus(nn.Module):
    """The four pixels of each 2x2 window become channels."""

    def __init__(self, cout: int) -> None:
        super().__init__()
        self.conv = _conv(12, cout, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        corners = (
            x[..., ::2, ::2], x[..., 1::2, ::2], x[..., ::2, 1::2], x[..., 1::2, 1::2],
        )  # fmt: skip
        return self.conv(torch.cat(corners, 1))


class _Body(nn.Module):
    """Stem and four stages; returns strides 8, 16 and 32."""

    def __init__(
        self,
        stem: nn.Module,
        channels: list[int],
        blocks: list[int],
        stage: type[nn.Module],
        last: list[nn.Module],
    ) -> None:
        super().__init__()
        self.stem = stem
        self.stages = nn.ModuleList()
        for i, (cin, cout) in enumerate(itertools.pairwise(channels)):
            parts = [_conv(cin, cout, 3, 2), stage(cin=cout, cout=cout, blocks=blocks[i])]
            self.stages.append(nn.Sequential(*parts) if i < 3 else nn.Sequential(parts[0], *last))

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        found = []
        x = self.stem(x)
        for stage in self.stages:
            x = stage(x)
            found.append(x)
        return found[1:]


class _PAN(nn.Module):
    """Top-down, then bottom-up; with C3 a 1x1 convolution stands before each upsampling."""

    def __init__(self, c: list[int], blocks: int, stage: type[nn.Module], reduce: bool) -> None:
        super().__init__()
        p3, p4, p5 = c
        self.reduce5 = _conv(p5, p4) if reduce else nn.Identity()
        self.reduce4 = _conv(p4, p3) if reduce else nn.Identity()
        up5, up4 = (p4, p3) if reduce else (p5, p4)
        self.up = nn.Upsample(scale_factor=2, mode="nearest")
        self.td4 = stage(up5 + p4, p4, blocks, shortcut=False)
        self.td3 = stage(up4 + p3, p3, blocks, shortcut=False)
        self.down3, self.bu4 = _conv(p3, p3, 3, 2), stage(p3 + up4, p4, blocks, shortcut=False)
        self.down4, self.bu5 = _conv(p4, p4, 3, 2), stage(p4 + up5, p5, blocks, shortcut=False)

    def forward(self, features: list[torch.Tensor]) -> list[torch.Tensor]:
        c3, c4, c5 = features
        top5 = self.reduce5(c5)
        top4 = self.reduce4(self.td4(torch.cat([self.up(top5), c4], 1)))
        n3 = self.td3(torch.cat([self.up(top4), c3], 1))
        n4 = self.bu4(torch.cat([self.down3(n3), top4], 1))
        return [n3, n4, self.bu5(torch.cat([self.down4(n4), top5], 1))]


class YOLOv5(nn.Module):
    """Three anchors a place, coupled heads, decoded as (2 sigmoid)^2 of the anchor."""

    def __init__(self, width: float = 1.0, depth: float = 1.0, classes: int = 80) -> None:
        super().__init__()
        c = [_wide(n, width) for n in (64, 128, 256, 512, 1024)]
        n = [_deep(b, depth) for b in (3, 6, 9, 3)]
        stem = nn.Sequential(
            nn.Conv2d(3, c[0], 6, 2, 2, bias=False), nn.BatchNorm2d(c[0], eps=1e-3), _SILU()
        )
        self.body = _Body(stem, c, n, _C3, [_C3(c[4], c[4], n[3]), _SPPF(c[4])])
        self.neck = _PAN(c[2:], n[0], _C3, reduce=True)
        self.heads = nn.ModuleList(nn.Conv2d(p, 3 * (5 + classes), 1) for p in c[2:])

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        outputs = []
        for head, feature in zip(self.heads, self.neck(self.body(x)), strict=True):
            y = head(feature)
            n, _, h, w = y.shape
            boxes = y.view(n, 3, -1, h, w).permute(0, 1, 3, 4, 2).contiguous().sigmoid()
            size = (boxes[..., 2:4] * 2) ** 2
            outputs.append(torch.cat((boxes[..., :2].mul(2).sub(0.5), size, boxes[..., 4:]), -1))
        return outputs


class YOLOv8(nn.Module):
    """Anchor-free; each side of a box is the mean of a distribution over 16 bins."""

    def __init__(
        self, width: float = 1.0, depth: float = 1.0, classes: int = 80, bins: int = 16
    ) -> None:
        super().__init__()
        c = [_wide(n, width) for n in (64, 128, 256, 512, 1024)]
        n = [_deep(b, depth) for b in (3, 6, 6, 3)]
        last = [_C2f(c[4], c[4], n[3]), _SPPF(c[4])]
        self.body = _Body(_conv(3, c[0], 3, 2), c, n, _C2f, last)
        self.neck = _PAN(c[2:], n[0], _C2f, reduce=False)
        box, label = max(16, c[2] // 4, 4 * bins), max(c[2], min(classes, 100))
        self.boxes = nn.ModuleList(
            nn.Sequential(_conv(p, box, 3), _conv(box, box, 3), nn.Conv2d(box, 4 * bins, 1))
            for p in c[2:]
        )
        self.labels = nn.ModuleList(
            nn.Sequential(_conv(p, label, 3), _conv(label, label, 3), nn.Conv2d(label, classes, 1))
            for p in c[2:]
        )
        self.bins = bins
        self.mean = nn.Conv2d(bins, 1, 1, bias=False).requires_grad_(False)
        self.mean.weight.data[:] = torch.arange(bins, dtype=torch.float32).view(1, bins, 1, 1)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        features = self.neck(self.body(x))
        boxes = torch.cat([b(f).flatten(2) for b, f in zip(self.boxes, features, strict=True)], 2)
        labels = torch.cat([b(f).flatten(2) for b, f in zip(self.labels, features, strict=True)], 2)
        n, _, places = boxes.size()
        share = boxes.view(n, 4, self.bins, places).transpose(2, 1).softmax(1)
        return {"boxes": self.mean(share).view(n, 4, places), "labels": labels.sigmoid()}


class YOLOX(nn.Module):
    """Anchor-free; classes and boxes come from towers of their own."""

    def __init__(self, width: float = 1.0, depth: float = 1.0, classes: int = 80) -> None:
        super().__init__()
        c = [int(n * width) for n in (64, 128, 256, 512, 1024)]
        n = [_deep(b, depth) for b in (3, 9, 9, 3)]
        last = [_SPP(c[4]), _C3(c[4], c[4], n[3], shortcut=False)]
        self.body = _Body(_Focus(c[0]), c, n, _C3, last)
        self.neck = _PAN(c[2:], n[0], _C3, reduce=True)
        hidden = c[2]
        self.stems = nn.ModuleList(_conv(p, hidden) for p in c[2:])
        self.towers = nn.ModuleList(
            nn.ModuleList([nn.Sequential(*(_conv(hidden, hidden, 3) for _ in range(2)))
                           for _ in range(2)])
            for _ in range(3)
        )  # fmt: skip
        self.outputs = nn.ModuleList(
            nn.ModuleList([nn.Conv2d(hidden, k, 1) for k in (classes, 4, 1)]) for _ in range(3)
        )

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        found = []
        for i, feature in enumerate(self.neck(self.body(x))):
            feature = self.stems[i](feature)
            labels, boxes = (tower(feature) for tower in self.towers[i])
            label, box, objectness = self.outputs[i]
            found.append(
                torch.cat([box(boxes), objectness(boxes).sigmoid(), label(labels).sigmoid()], 1)
            )
        return found


NETS = (
    Net(
        "yolov5n", YOLOv5, {"width": 0.25, "depth": 0.33},
        {"width": 0.125, "depth": 0.1, "classes": 3}, (64, 64),
        Published(1_872_157, None, (640, 640), "github.com/ultralytics/yolov5 6.0, its log"),
    ),
    Net(
        "yolov8n", YOLOv8, {"width": 0.25, "depth": 0.33},
        {"width": 0.125, "depth": 0.1, "classes": 3, "bins": 4}, (64, 64),
        Published(3_157_200, None, (640, 640), "github.com/ultralytics/ultralytics, its log"),
    ),
    Net(
        "yolox_s", YOLOX, {"width": 0.5, "depth": 0.33},
        {"width": 0.125, "depth": 0.1, "classes": 3}, (64, 64),
        Published(
            8_970_000, 13_400_000_000, (640, 640), "arXiv:2107.08430, table 2; half of its FLOPs"
        ),
    ),
)  # fmt: skip
