"""Segmentation of a spinning lidar's range images: SalsaNext, Cortinhal et al. 2020,
arXiv:2003.03653, with the seam of the full turn closed by circular padding."""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.zoo.blocks import repeats, scaled
from tests.zoo.zoo import Net, Published


class _Conv(nn.Module):
    """Convolution, leaky relu, batch norm, in this order."""

    def __init__(
        self, cin: int, cout: int, kernel: int = 3, dilation: int = 1, norm: bool = True
    ) -> None:
        super().__init__()
        reach = dilation * (kernel - 1) // 2
        self.conv = nn.Conv2d(cin, cout, kernel, padding=reach, dilation=dilation)
        self.norm = nn.BatchNorm2d(cout) if norm else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(F.leaky_relu(self.conv(x)))


class _Context(nn.Module):
    def __init__(self, cin: int, cout: int) -> None:
        super().__init__()
        self.aside = _Conv(cin, cout, 1, norm=False)
        self.first, self.second = _Conv(cout, cout), _Conv(cout, cout, dilation=2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.aside(x)
        return x + self.second(self.first(x))


class _Chain(nn.Module):
    """Three convolutions in a row whose results are joined."""

    def __init__(self, cin: int, cout: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            [_Conv(cin, cout), _Conv(cout, cout, dilation=2), _Conv(cout, cout, 2, dilation=2)]
        )
        self.join = _Conv(3 * cout, cout, 1)

    def forward(self, x: Tensor) -> Tensor:
        found = []
        for conv in self.convs:
            x = conv(x)
            found.append(x)
        return self.join(torch.cat(found, dim=1))


class _Down(nn.Module):
    def __init__(self, cin: int, cout: int) -> None:
        super().__init__()
        self.aside, self.chain = _Conv(cin, cout, 1, norm=False), _Chain(cin, cout)

    def forward(self, x: Tensor) -> Tensor:
        return self.aside(x) + self.chain(x)


class SalsaNext(nn.Module):
    """Residual dilated encoder; pixel shuffles up."""

    def __init__(
        self, width: float = 1.0, depth: float = 1.0, classes: int = 20, levels: int = 4
    ) -> None:
        super().__init__()
        c = [scaled(n, width) for n in (32, 64, 128, 256, 256, 256)[: levels + 1]]
        contexts = range(repeats(3, depth))
        self.wrap = nn.CircularPad2d((2, 2, 0, 0))
        self.context = nn.Sequential(*(_Context(c[0] if i else 5, c[0]) for i in contexts))
        self.down = nn.ModuleList(_Down(a, b) for a, b in itertools.pairwise(c))
        self.bottom = _Down(c[-1], c[-1])
        self.pool, self.drop = nn.AvgPool2d(3, 2, 1), nn.Dropout2d(0.2)
        ups = [scaled(n, width) for n in (128, 128, 64, 32)[4 - levels :]]
        self.up = nn.ModuleList(
            _Chain(low // 4 + high, out)
            for low, high, out in zip((c[-1], *ups[:-1]), c[:0:-1], ups, strict=True)
        )
        self.head = nn.Conv2d(ups[-1], classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.context(self.wrap(x)[..., 2:-2])
        skips = []
        for down in self.down:
            skip = down(x)
            skips.append(skip)
            x = self.pool(self.drop(skip))
        x = self.bottom(x)
        for up, skip in zip(self.up, skips[::-1], strict=True):
            x = up(self.drop(torch.cat((F.pixel_shuffle(x, 2), skip), dim=1)))
        return F.softmax(self.head(x), 1)


NETS = (
    Net(
        "salsanext", SalsaNext, {}, {"width": 0.125, "depth": 0.3, "classes": 3, "levels": 2},
        (16, 32), Published(6_730_000, None, (64, 2048), "arXiv:2003.03653, table 3"), channels=5,
    ),
)  # fmt: skip
