"""YOLOv7-tiny: Wang et al. 2022, arXiv:2207.02696; efficient layer aggregation (ELAN), SPP inside
a CSP block, heads with implicit knowledge."""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from torch import nn

from tests.zoo.blocks import conv_bn, repeats, scaled
from tests.zoo.zoo import Net, Published

_LEAKY = partial(nn.LeakyReLU, 0.1)


def _conv(cin: int, cout: int, kernel: int = 1, stride: int = 1) -> nn.Sequential:
    return conv_bn(cin, cout, kernel, stride, act=_LEAKY, eps=1e-3)


class _ELAN(nn.Module):
    """Every intermediate result reaches the last convolution."""

    def __init__(self, cin: int, hidden: int, cout: int, blocks: int) -> None:
        super().__init__()
        self.aside, self.into = _conv(cin, hidden), _conv(cin, hidden)
        self.chain = nn.ModuleList(_conv(hidden, hidden, 3) for _ in range(blocks))
        self.join = _conv((2 + blocks) * hidden, cout)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found = [self.aside(x), self.into(x)]
        for conv in self.chain:
            found.insert(0, conv(found[0] if len(found) > 2 else found[1]))
        return self.join(torch.concatenate(found, dim=1))


class _SPPCSP(nn.Module):
    """Spatial pyramid pooling on one of two branches."""

    def __init__(self, cin: int, cout: int) -> None:
        super().__init__()
        self.aside, self.into = _conv(cin, cout), _conv(cin, cout)
        self.pooled, self.join = _conv(4 * cout, cout), _conv(2 * cout, cout)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.into(x)
        pooled = [F.max_pool2d(y, kernel_size=k, stride=1, padding=k // 2) for k in (13, 9, 5)]
        return self.join(torch.cat([self.pooled(torch.cat([*pooled, y], 1)), self.aside(x)], 1))


class _Implicit(nn.Module):
    """A prediction with a learned shift of its input and a learned factor on its output."""

    def __init__(self, cin: int, cout: int) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(1, cin, 1, 1))
        self.factor = nn.Parameter(torch.ones(1, cout, 1, 1))
        self.conv = nn.Conv2d(cin, cout, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.factor * self.conv(self.shift + x)


class YOLOv7Tiny(nn.Module):
    """Four ELAN stages, SPPCSP, a path aggregation neck of ELANs, three heads."""

    def __init__(self, width: float = 1.0, depth: float = 1.0, classes: int = 80) -> None:
        super().__init__()
        c = [scaled(32 * 2**i, width) for i in range(5)]
        n = repeats(2, depth)
        self.stem = nn.Sequential(_conv(3, c[0], 3, 2), _conv(c[0], c[1], 3, 2))
        self.stages = nn.ModuleList(
            _ELAN(cin, hidden, 2 * hidden, n)
            for cin, hidden in ((c[1], c[0]), (c[1], c[1]), (c[2], c[2]), (c[3], c[3]))
        )
        self.spp = _SPPCSP(c[4], c[3])
        self.lateral5, self.route4 = _conv(c[3], c[2]), _conv(c[3], c[2])
        self.td4 = _ELAN(2 * c[2], c[1], c[2], n)
        self.lateral4, self.route3 = _conv(c[2], c[1]), _conv(c[2], c[1])
        self.td3 = _ELAN(2 * c[1], c[0], c[1], n)
        self.down3, self.bu4 = _conv(c[1], c[2], 3, 2), _ELAN(2 * c[2], c[1], c[2], n)
        self.down4, self.bu5 = _conv(c[2], c[3], 3, 2), _ELAN(2 * c[3], c[2], c[3], n)
        self.before = nn.ModuleList(_conv(p, 2 * p, 3) for p in c[1:4])
        self.heads = nn.ModuleList(_Implicit(2 * p, 3 * (5 + classes)) for p in c[1:4])

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        x = self.stages[0](self.stem(x))
        kept = []
        for stage in self.stages[1:]:
            x = stage(torch.max_pool2d(x, 2, 2))
            kept.append(x)
        c3, c4, c5 = kept
        n5 = self.spp(c5)
        up = F.interpolate(self.lateral5(n5), scale_factor=2.0, mode="nearest")
        n4 = self.td4(torch.cat([self.route4(c4), up], dim=1))
        up = F.interpolate(self.lateral4(n4), scale_factor=2.0, mode="nearest")
        n3 = self.td3(torch.cat([self.route3(c3), up], dim=1))
        n4 = self.bu4(torch.cat([self.down3(n3), n4], dim=1))
        n5 = self.bu5(torch.cat([self.down4(n4), n5], dim=1))
        before = (conv(n) for conv, n in zip(self.before, (n3, n4, n5), strict=True))
        names = ("stride8", "stride16", "stride32")
        return {name: head(y) for name, head, y in zip(names, self.heads, before, strict=True)}


NETS = (
    Net(
        "yolov7_tiny", YOLOv7Tiny, {}, {"width": 0.25, "depth": 0.5, "classes": 3}, (64, 64),
        Published(6_200_000, None, (640, 640), "github.com/WongKinYiu/yolov7, model card"),
    ),
)  # fmt: skip
