"""One-stage detectors on a feature pyramid: RetinaNet (arXiv:1708.02002), FCOS (arXiv:1904.01355)
and RetinaNet with PANet's bottom-up path (arXiv:1803.01534)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.zoo.blocks import repeats, scaled
from tests.zoo.features import ResNetFeatures
from tests.zoo.zoo import TORCHVISION, Net, Published


class FPN(nn.Module):
    """Feature pyramid, Lin et al. 2016, with P6 and P7 from P5; strides 8 to 128.

    bottom_up: PANet's second path on top of it.
    """

    def __init__(self, cins: list[int], channels: int, bottom_up: bool = False) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(nn.Conv2d(c, channels, 1) for c in cins)
        self.smooth = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1) for _ in cins)
        self.p6 = nn.Conv2d(channels, channels, 3, 2, 1)
        self.p7 = nn.Conv2d(channels, channels, 3, 2, 1)
        steps = len(cins) - 1 if bottom_up else 0
        self.down = nn.ModuleList(nn.Conv2d(channels, channels, 3, 2, 1) for _ in range(steps))
        self.after = nn.ModuleList(nn.Conv2d(channels, channels, 3, 1, 1) for _ in range(steps))

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        inner = [conv(f) for conv, f in zip(self.lateral, features, strict=True)]
        for i in range(len(inner) - 1, 0, -1):
            size = inner[i - 1].shape[-2:]
            inner[i - 1] = inner[i - 1] + F.interpolate(inner[i], size=size, mode="nearest")
        levels = [conv(x) for conv, x in zip(self.smooth, inner, strict=True)]
        for i, (down, after) in enumerate(zip(self.down, self.after, strict=True)):
            levels[i + 1] = after(levels[i + 1] + down(levels[i]))
        p6 = self.p6(levels[-1])
        return [*levels, p6, self.p7(F.relu(p6))]


class RetinaNet(nn.Module):
    """Two towers that all levels share."""

    def __init__(
        self,
        layers: int = 50,
        width: float = 1.0,
        depth: float = 1.0,
        classes: int = 91,
        anchors: int = 9,
        bottom_up: bool = False,
    ) -> None:
        super().__init__()
        self.body = ResNetFeatures(layers, width, depth)
        channels = scaled(256, width)
        self.fpn = FPN(self.body.channels[1:], channels, bottom_up)
        count = repeats(4, depth)
        self.label_tower = self._tower(channels, count)
        self.box_tower = self._tower(channels, count)
        self.label = nn.Conv2d(channels, anchors * classes, 3, padding=1)
        self.box = nn.Conv2d(channels, anchors * 4, 3, padding=1)
        nn.init.constant_(self.label.bias, -math.log(99))
        self.classes = classes

    @staticmethod
    def _tower(channels: int, count: int) -> nn.Sequential:
        layers: list[nn.Module] = []
        for _ in range(count):
            layers += [nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU()]
        return nn.Sequential(*layers)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        labels, boxes = [], []
        for level in self.fpn(self.body(x)[1:]):
            labels.append(self._rows(self.label(self.label_tower(level)), self.classes))
            boxes.append(self._rows(self.box(self.box_tower(level)), 4))
        return {"labels": torch.cat(labels, 1).sigmoid_(), "boxes": torch.cat(boxes, 1)}

    @staticmethod
    def _rows(x: Tensor, columns: int) -> Tensor:
        n, _, h, w = x.shape
        x = x.view(n, -1, columns, h, w)
        return x.permute([0, 3, 4, 1, 2]).reshape(n, h * w * (x.shape[1]), columns)


class FCOS(nn.Module):
    """Shared towers whose batch norms belong to a level each; the published net has one group norm
    in their place."""

    def __init__(
        self, layers: int = 50, width: float = 1.0, depth: float = 1.0, classes: int = 91
    ) -> None:
        super().__init__()
        self.body = ResNetFeatures(layers, width, depth)
        channels, count = scaled(256, width), repeats(4, depth)
        self.fpn = FPN(self.body.channels[1:], channels)
        self.convs = nn.ModuleDict()
        self.norms = nn.ModuleDict()
        for tower in ("label", "box"):
            self.convs[tower] = nn.ModuleList(
                nn.Conv2d(channels, channels, 3, padding=1) for _ in range(count)
            )
            self.norms[tower] = nn.ModuleList(
                nn.ModuleList(nn.BatchNorm2d(channels) for _ in range(count)) for _ in range(5)
            )
        self.label = nn.Conv2d(channels, classes, 3, padding=1)
        self.box = nn.Conv2d(channels, 4, 3, padding=1)
        self.centerness = nn.Conv2d(channels, 1, 3, padding=1)

    def _tower(self, name: str, x: Tensor, level: int) -> Tensor:
        for conv, norm in zip(self.convs[name], self.norms[name][level], strict=True):
            x = F.relu(norm(conv(x)))
        return x

    def forward(self, x: Tensor) -> list[list[Tensor]]:
        labels, boxes, centers = [], [], []
        for level, feature in enumerate(self.fpn(self.body(x)[1:])):
            labels.append(self.label(self._tower("label", feature, level)))
            near = self._tower("box", feature, level)
            boxes.append(F.relu(self.box(near)) * float(8 << level))
            centers.append(self.centerness(near))
        return [labels, boxes, centers]


NETS = (
    Net(
        "retinanet_r50", RetinaNet, {}, {"width": 0.125, "depth": 0.25, "classes": 3}, (64, 64),
        Published(
            34_010_000, 151_540_000_000, (800, 800),
            TORCHVISION + "; its frozen batch norms own no parameters"
        ),
    ),
    Net(
        "fcos_r50", FCOS, {}, {"width": 0.125, "depth": 0.25, "classes": 3}, (64, 64),
        Published(
            32_270_000, 128_207_000_000, (800, 800),
            TORCHVISION + "; with group norm and frozen batch norms"
        ),
    ),
    Net(
        "retinanet_r18_pan", RetinaNet, {"layers": 18, "bottom_up": True},
        {"layers": 18, "bottom_up": True, "width": 0.125, "depth": 0.5, "classes": 2}, (64, 64),
    ),
)  # fmt: skip
