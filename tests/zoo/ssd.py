"""SSD, Liu et al. 2015, arXiv:1512.02325, on VGG16 as torchvision builds it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from tests.zoo.blocks import repeats, scaled
from tests.zoo.zoo import TORCHVISION, Net, Published


class SSD(nn.Module):
    """Six feature maps, the first one L2-normalized; a class and a box for each default box.

    maps: so many of the feature maps are used (small inputs have no space for the last ones).
    """

    def __init__(
        self, width: float = 1.0, depth: float = 1.0, classes: int = 91, maps: int = 6
    ) -> None:
        super().__init__()
        c = [scaled(n, width) for n in (64, 128, 256, 512)]
        blocks = [repeats(n, depth) for n in (2, 2, 3, 3)]
        layers: list[nn.Module] = []
        cin = 3
        for i, (count, cout) in enumerate(zip(blocks, c, strict=True)):
            if i:
                layers.append(nn.MaxPool2d(2, 2, ceil_mode=i == 3))
            layers += self._convs(cin, cout, count)
            cin = cout
        self.base = nn.Sequential(*layers)
        fc, small = scaled(1024, width), [scaled(n, width) for n in (128, 256)]
        self.fc = nn.Sequential(
            nn.MaxPool2d(2), *self._convs(cin, cin, repeats(3, depth)), nn.MaxPool2d(3, 1, 1),
            nn.Conv2d(cin, fc, 3, padding=6, dilation=6), nn.ReLU(True),
            nn.Conv2d(fc, fc, 1), nn.ReLU(True),
        )  # fmt: skip
        extras = (
            (fc, small[1], c[3], 2, 1), (c[3], small[0], small[1], 2, 1),
            (small[1], small[0], small[1], 1, 0), (small[1], small[0], small[1], 1, 0),
        )[: maps - 2]  # fmt: skip
        self.extras = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(a, b, 1), nn.ReLU(True),
                nn.Conv2d(b, d, 3, stride, padding), nn.ReLU(True),
            )
            for a, b, d, stride, padding in extras
        )  # fmt: skip
        self.scale = nn.Parameter(torch.full((c[3],), 20.0))
        sizes = [c[3], fc, *(e[2] for e in extras)]
        boxes = (4, 6, 6, 6, 4, 4)[:maps]
        self.labels = nn.ModuleList(
            nn.Conv2d(n, b * classes, 3, padding=1) for n, b in zip(sizes, boxes, strict=True)
        )
        self.boxes = nn.ModuleList(
            nn.Conv2d(n, b * 4, 3, padding=1) for n, b in zip(sizes, boxes, strict=True)
        )
        self.classes = classes

    @staticmethod
    def _convs(cin: int, cout: int, count: int) -> list[nn.Module]:
        layers: list[nn.Module] = []
        for i in range(count):
            layers += [nn.Conv2d(cout if i else cin, cout, 3, padding=1), nn.ReLU(True)]
        return layers

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        x = self.base(x)
        norm = x.pow(2).sum(dim=1, keepdim=True).sqrt().clamp(min=1e-12)
        maps = [self.scale.view(1, -1, 1, 1) * torch.div(x, norm)]
        x = self.fc(x)
        maps.append(x)
        for extra in self.extras:
            x = extra(x)
            maps.append(x)
        labels = [self._rows(f(m), self.classes) for f, m in zip(self.labels, maps, strict=True)]
        boxes = [self._rows(f(m), 4) for f, m in zip(self.boxes, maps, strict=True)]
        return {
            "labels": F.softmax(torch.cat(labels, dim=1), dim=-1),
            "boxes": torch.cat(boxes, dim=1),
        }

    @staticmethod
    def _rows(x: torch.Tensor, columns: int) -> torch.Tensor:
        return x.permute(0, 2, 3, 1).reshape(x.size(0), -1, columns)


NETS = (
    Net(
        "ssd300_vgg16", SSD, {}, {"width": 0.125, "depth": 0.5, "classes": 4, "maps": 4}, (64, 64),
        Published(35_641_826, 34_858_000_000, (300, 300), TORCHVISION),
    ),
)  # fmt: skip
