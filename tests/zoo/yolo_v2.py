"""YOLOv2, Redmon and Farhadi 2016, arXiv:1612.08242: Darknet-19, and a passthrough that turns the
finer map's windows into channels."""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.zoo.blocks import conv_bn, repeats, scaled
from tests.zoo.zoo import Net, Published

_conv = partial(conv_bn, act=partial(nn.LeakyReLU, 0.1, True))


def _stage(cin: int, cout: int, pairs: int) -> nn.Sequential:
    """A 3x3 convolution, then `pairs` times half of the channels by 1x1 and back by 3x3."""
    layers = [_conv(cin, cout, 3)]
    for _ in range(pairs):
        layers += [_conv(cout, cout // 2), _conv(cout // 2, cout, 3)]
    return nn.Sequential(*layers)


class YOLOv2(nn.Module):
    """Five boxes a place; centres by a sigmoid, sizes by an exponential."""

    def __init__(
        self, width: float = 1.0, depth: float = 1.0, classes: int = 80, boxes: int = 5
    ) -> None:
        super().__init__()
        c = [scaled(32 << i, width) for i in range(6)]
        pairs = [0, 0, 1, 1, *(repeats(n, depth) for n in (2, 2))]
        self.stages = nn.ModuleList(
            _stage(cin, cout, n) for cin, cout, n in zip((3, *c[:-1]), c, pairs, strict=True)
        )
        aside = scaled(64, width)
        self.deep = nn.Sequential(_conv(c[5], c[5], 3), _conv(c[5], c[5], 3))
        self.aside = _conv(c[4], aside)
        self.join = _conv(c[5] + 4 * aside, c[5], 3)
        self.head = nn.Conv2d(c[5], boxes * (5 + classes), 1)
        self.register_buffer("anchors", torch.rand(1, boxes, 2, 1, 1) + 0.5)
        self.boxes = boxes

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        fine = x
        for i, stage in enumerate(self.stages):
            fine = x
            x = stage(F.max_pool2d(x, 2) if i else x)
        x = torch.cat((F.pixel_unshuffle(self.aside(fine), 2), self.deep(x)), dim=1)
        n, _, h, w = x.shape
        y = self.head(self.join(x)).view(n, self.boxes, -1, h, w)
        center, size, rest = torch.split(y, [2, 2, y.shape[2] - 4], dim=2)
        return {
            "centers": center.sigmoid(),
            "sizes": torch.exp(size) * self.anchors,
            "objectness": rest[:, :, 0].sigmoid(),
            "labels": rest[:, :, 1:].softmax(dim=2),
        }


NETS = (
    Net(
        "yolov2", YOLOv2, {}, {"width": 0.125, "depth": 0.5, "classes": 3}, (64, 64),
        Published(None, 31_470_000_000, (608, 608), "pjreddie.com/darknet/yolo: half of 62.94 Bn"),
    ),
)  # fmt: skip
