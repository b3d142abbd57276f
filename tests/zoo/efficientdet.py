"""EfficientDet-D0, Tan et al. 2019, arXiv:1911.09070: EfficientNet-B0, BiFPN, heads whose
convolutions the levels share and whose batch norms they do not."""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.zoo.blocks import conv_bn, repeats, scaled
from tests.zoo.mbconv import B0, MBConv
from tests.zoo.zoo import Net, Published


class _Separable(nn.Module):
    """Depthwise 3x3, then 1x1 with a bias."""

    def __init__(self, cin: int, cout: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(cin, cin, 3, padding=1, groups=cin, bias=False)
        self.pointwise = nn.Conv2d(cin, cout, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.pointwise(self.depthwise(x))


class _Fuse(nn.Module):
    """Fast normalized fusion: a mean with learned weights that are never negative; then swish, a
    separable convolution, batch norm."""

    def __init__(self, channels: int, inputs: int) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.ones(inputs))
        self.conv, self.norm = _Separable(channels, channels), nn.BatchNorm2d(channels)

    def forward(self, *xs: Tensor) -> Tensor:
        weights = F.relu(self.weights)
        weights = weights / (torch.sum(weights, dim=0) + 1e-4)
        total = xs[0] * weights[0]
        for i in range(1, len(xs)):
            total = total + xs[i] * weights[i]
        return self.norm(self.conv(F.silu(total)))


class BiFPN(nn.Module):
    """One round: coarse to fine, then fine to coarse.

    cins: of the backbone's three maps for the first round, which makes P6 and P7 from the last.
    """

    def __init__(self, channels: int, cins: list[int] | None = None) -> None:
        super().__init__()
        self.down = nn.ModuleList(_Fuse(channels, 2) for _ in range(4))
        self.up = nn.ModuleList(_Fuse(channels, 2 if i == 3 else 3) for i in range(4))
        self.first = cins is not None
        if cins is not None:
            into = partial(conv_bn, cout=channels, act=None)
            self.into = nn.ModuleList(into(c) for c in (*cins, cins[2]))
            self.again = nn.ModuleList(into(c) for c in cins[1:])

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        again = {}
        if self.first:
            c3, c4, c5 = features
            p3, p4, p5, p6 = (f(c) for f, c in zip(self.into, (c3, c4, c5, c5), strict=True))
            p6 = F.max_pool2d(p6, 3, 2, 1)
            features = [p3, p4, p5, p6, F.max_pool2d(p6, 3, 2, 1)]
            again = {1: self.again[0](c4), 2: self.again[1](c5)}
        tops = [features[4]]
        for fuse, feature in zip(self.down, features[3::-1], strict=True):
            up = F.interpolate(tops[0], scale_factor=2, mode="nearest")
            tops.insert(0, fuse(feature, up))
        found = [tops[0]]
        for i, fuse in enumerate(self.up, start=1):
            below = F.max_pool2d(found[-1], 3, 2, 1)
            inputs = (again.get(i, features[i]), tops[i], below)
            found.append(fuse(*inputs) if i < 4 else fuse(features[4], below))
        return found


class _Head(nn.Module):
    """Convolutions of all levels, batch norms of each."""

    def __init__(self, channels: int, count: int, outputs: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(_Separable(channels, channels) for _ in range(count))
        self.norms = nn.ModuleList(
            nn.ModuleList(nn.BatchNorm2d(channels) for _ in range(count)) for _ in range(5)
        )
        self.predict = _Separable(channels, outputs)

    def forward(self, levels: list[Tensor]) -> list[Tensor]:
        found = []
        for norms, x in zip(self.norms, levels, strict=True):
            for conv, norm in zip(self.convs, norms, strict=True):
                x = F.silu(norm(conv(x)))
            found.append(self.predict(x))
        return found


class EfficientDet(nn.Module):
    def __init__(
        self, width: float = 1.0, depth: float = 1.0, classes: int = 90, anchors: int = 9
    ) -> None:
        super().__init__()
        cin = scaled(32, width)
        self.stem = conv_bn(3, cin, 3, 2, act=nn.SiLU)
        self.rows, widths = nn.ModuleList(), []
        for row in B0:
            cout, blocks = scaled(row.channels, width), []
            for i in range(repeats(row.count, depth)):
                stride = row.stride if i == 0 else 1
                blocks.append(MBConv(cin, cout, row.kernel, stride, row.expand, nn.SiLU, row.gate))
                cin = cout
            self.rows.append(nn.Sequential(*blocks))
            widths.append(cout)
        channels, count = scaled(64, width), repeats(3, depth)
        first = [BiFPN(channels, [widths[i] for i in (2, 4, 6)])]
        self.neck = nn.Sequential(*first, *(BiFPN(channels) for _ in range(count - 1)))
        self.label = _Head(channels, count, anchors * classes)
        self.box = _Head(channels, count, anchors * 4)

    def forward(self, x: Tensor) -> dict[str, list[Tensor]]:
        x = self.stem(x)
        features = []
        for i, row in enumerate(self.rows):
            x = row(x)
            if i in (2, 4, 6):
                features.append(x)
        levels = self.neck(features)
        return {"labels": self.label(levels), "boxes": self.box(levels)}


NETS = (
    Net(
        "efficientdet_d0", EfficientDet, {}, {"width": 0.125, "depth": 0.3, "classes": 2},
        (128, 128),
        Published(
            3_880_000, 2_500_000_000, (512, 512),
            "github.com/rwightman/efficientdet-pytorch; multiply-adds: the paper's table 2",
        ),
    ),
)  # fmt: skip
