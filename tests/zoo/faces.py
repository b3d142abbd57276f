"""Faces: FaceBoxes (arXiv:1708.05234), LightCNN-9 (arXiv:1511.02683), MobileFaceNet
(arXiv:1804.07573) with a cosine classifier (arXiv:1801.07698)."""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.zoo.blocks import conv_bn, repeats, scaled
from tests.zoo.zoo import Net


class _CReLU(nn.Module):
    """The rectifier of a feature map and of its negative, so that half the filters suffice."""

    def __init__(self, cin: int, cout: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.conv = conv_bn(cin, cout, kernel, stride, act=None)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return torch.cat([x, -x], dim=1).relu_()


class _Inception(nn.Module):
    """Four branches of 1x1 and 3x3 convolutions."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        quarter, inner = channels // 4, channels // 16 * 3
        self.point, self.pooled = conv_bn(channels, quarter), conv_bn(channels, quarter)
        self.three = nn.Sequential(conv_bn(channels, inner), conv_bn(inner, quarter, 3))
        self.five = nn.Sequential(
            conv_bn(channels, inner), conv_bn(inner, quarter, 3), conv_bn(quarter, quarter, 3)
        )

    def forward(self, x: Tensor) -> Tensor:
        pooled = self.pooled(F.avg_pool2d(x, 3, stride=1, padding=1))
        return torch.cat((self.point(x), pooled, self.three(x), self.five(x)), dim=1)


class FaceBoxes(nn.Module):
    """Rapidly digested layers, then inceptions; three maps of boxes and scores."""

    def __init__(self, width: float = 1.0, depth: float = 1.0, classes: int = 2) -> None:
        super().__init__()
        c = [scaled(n, width, 4) for n in (24, 64)]
        wide, inner = scaled(128, width, 16), scaled(128, width, 16)
        self.first, self.second = _CReLU(3, c[0], 7, 4), _CReLU(2 * c[0], c[1], 5, 2)
        into = nn.Identity() if 2 * c[1] == wide else conv_bn(2 * c[1], wide)
        self.inceptions = nn.Sequential(into, *(_Inception(wide) for _ in range(repeats(3, depth))))
        self.down = nn.ModuleList(
            nn.Sequential(conv_bn(cin, inner), conv_bn(inner, 2 * inner, 3, 2))
            for cin in (wide, 2 * inner)
        )
        anchors = ((wide, 21), (2 * inner, 1), (2 * inner, 1))
        self.boxes = nn.ModuleList(nn.Conv2d(n, 4 * k, 3, padding=1) for n, k in anchors)
        self.scores = nn.ModuleList(nn.Conv2d(n, classes * k, 3, padding=1) for n, k in anchors)
        self.classes = classes

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        x = F.max_pool2d(self.first(x), kernel_size=3, stride=2, padding=1)
        x = self.inceptions(F.max_pool2d(self.second(x), kernel_size=3, stride=2, padding=1))
        maps = [x]
        for down in self.down:
            maps.append(down(maps[-1]))
        boxes = [self._rows(f(m), 4) for f, m in zip(self.boxes, maps, strict=True)]
        scores = [self._rows(f(m), self.classes) for f, m in zip(self.scores, maps, strict=True)]
        return {"boxes": torch.cat(boxes, 1), "scores": torch.softmax(torch.cat(scores, 1), -1)}

    @staticmethod
    def _rows(x: Tensor, columns: int) -> Tensor:
        return torch.permute(x, (0, 2, 3, 1)).contiguous().view(x.size(0), -1, columns)


class _Maxout(nn.Module):
    """Max-feature-map: the larger one of two halves of the channels."""

    def __init__(self, cin: int, cout: int, kernel: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(cin, 2 * cout, kernel, padding=kernel // 2)

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.conv(x).chunk(2, dim=1)
        return torch.maximum(a, b)


class LightCNN(nn.Module):
    """LightCNN-9 on grey faces; its features are two halves' maximum as well."""

    def __init__(
        self, width: float = 1.0, depth: float = 1.0, classes: int = 79077, places: int = 64
    ) -> None:
        super().__init__()
        c = [scaled(n, width) for n in (48, 96, 192, 128, 128)]
        self.first = _Maxout(1, c[0], 5)
        self.groups = nn.ModuleList(
            nn.Sequential(
                *(_Maxout(cin, cin, 1) for _ in range(repeats(1, depth))), _Maxout(cin, cout, 3)
            )
            for cin, cout in itertools.pairwise(c)
        )
        hidden = scaled(256, width)
        self.fc, self.head = nn.Linear(places * c[4], 2 * hidden), nn.Linear(hidden, classes)
        self.pool, self.dropout = nn.MaxPool2d(2, ceil_mode=True), nn.Dropout(0.7)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.first(x))
        for i, group in enumerate(self.groups):
            x = group(x)
            x = x if i == 2 else self.pool(x)
        a, b = torch.split(self.fc(torch.flatten(x, 1)), self.fc.out_features // 2, dim=1)
        return self.head(self.dropout(a.maximum(b)))


class _Residual(nn.Module):
    """An inverted residual with learned slopes."""

    def __init__(self, cin: int, cout: int, stride: int, expand: int) -> None:
        super().__init__()
        inner = cin * expand
        self.layers = nn.Sequential(
            conv_bn(cin, inner, act=lambda: nn.PReLU(inner)),
            conv_bn(inner, inner, 3, stride, inner, lambda: nn.PReLU(inner)),
            conv_bn(inner, cout, act=None),
        )
        self.shortcut = stride == 1 and cin == cout

    def forward(self, x: Tensor) -> Tensor:
        return x.clone().add_(self.layers(x)) if self.shortcut else self.layers(x)


class MobileFaceNet(nn.Module):
    """A depthwise convolution over all places instead of their mean; the cosine of the feature's
    angle to each person's."""

    def __init__(
        self, width: float = 1.0, depth: float = 1.0, persons: int = 10575, places: int = 7
    ) -> None:
        super().__init__()
        c = [scaled(n, width) for n in (64, 64, 128, 128, 512)]
        self.stem = nn.Sequential(
            conv_bn(3, c[0], 3, 2, act=lambda: nn.PReLU(c[0])),
            conv_bn(c[0], c[0], 3, groups=c[0], act=lambda: nn.PReLU(c[0])),
        )
        layers: list[nn.Module] = []
        rows = ((c[0], c[1], 5, 2), (c[1], c[2], 1, 4), (c[2], c[2], 6, 2), (c[2], c[3], 1, 4),
                (c[3], c[3], 2, 2))  # fmt: skip
        for row, (cin, cout, count, expand) in enumerate(rows):
            blocks = range(repeats(count, depth))
            strides = [2 if i == 0 and row in (0, 1, 3) else 1 for i in blocks]
            layers += [_Residual(cout if i else cin, cout, strides[i], expand) for i in blocks]
        last, feature = c[4], scaled(128, width)
        self.layers = nn.Sequential(*layers, conv_bn(c[3], last, act=lambda: nn.PReLU(last)))
        self.whole = nn.Sequential(
            nn.Conv2d(last, last, places, groups=last, bias=False), nn.BatchNorm2d(last)
        )
        self.feature = conv_bn(last, feature, act=None)
        self.persons = nn.Parameter(torch.randn(persons, feature))

    def forward(self, x: Tensor) -> Tensor:
        x = self.feature(self.whole(self.layers(self.stem(x)))).flatten(start_dim=1)
        x = x * torch.rsqrt(x.pow(2).sum(1, keepdim=True) + 1e-12)
        norms = self.persons.square().sum(dim=1, keepdim=True).add(1e-12).rsqrt()
        cosine = F.linear(x, torch.mul(self.persons, norms))
        cosine *= 64.0
        return cosine


NETS = (
    Net("faceboxes", FaceBoxes, {}, {"width": 0.25, "depth": 0.34}, (128, 128)),
    Net(
        "lightcnn9", LightCNN, {}, {"width": 0.125, "classes": 4, "places": 4}, (32, 32), channels=1
    ),
    Net(
        "mobilefacenet", MobileFaceNet, {},
        {"width": 0.125, "depth": 0.25, "persons": 4, "places": 3}, (48, 48),
    ),
)  # fmt: skip
