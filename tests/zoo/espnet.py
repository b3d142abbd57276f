"""ESPNetv2, Mehta et al. 2018, arXiv:1811.11431: pyramids of dilated depthwise
convolutions whose results are summed in a hierarchy; the picture itself enters every stage."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from tests.zoo.blocks import repeats, scaled
from tests.zoo.zoo import Net, Published

_WAYS = 4


def _conv(
    cin: int, cout: int, kernel: int, stride: int = 1, groups: int = 1, act: bool = True
) -> nn.Sequential:
    conv = nn.Conv2d(cin, cout, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(cout), *([nn.PReLU(cout)] if act else []))


class Pyramid(nn.Module):
    """EESP: reduce, four dilated depthwise convolutions, each added to the next, merge. `reach`
    bounds the receptive field; longer ones fall back to a dilation of one."""

    def __init__(self, cin: int, cout: int, stride: int, reach: int) -> None:
        super().__init__()
        inner = cout // _WAYS
        fields = sorted(f if f <= reach else 3 for f in (3, 5, 7, 9))
        self.reduce = _conv(cin, inner, 1, groups=_WAYS)
        self.ways = nn.ModuleList(
            nn.Conv2d(inner, inner, 3, stride, f // 2, f // 2, inner, bias=False) for f in fields
        )
        self.norm = nn.Sequential(nn.BatchNorm2d(cout), nn.PReLU(cout))
        self.merge = _conv(cout, cout, 1, groups=_WAYS, act=False)
        self.act = nn.PReLU(cout) if stride == 1 else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        reduced = self.reduce(x)
        outputs = [self.ways[0](reduced)]
        for way in self.ways[1:]:
            outputs.append(way(reduced) + outputs[-1])
        out = self.merge(self.norm(torch.cat(outputs, 1)))
        return out if self.act is None else self.act(out + x)


class Down(nn.Module):
    """A pyramid with stride beside an average, plus the picture at this size."""

    def __init__(self, cin: int, cout: int, reach: int) -> None:
        super().__init__()
        self.pyramid = Pyramid(cin, cout - cin, 2, reach)
        self.average = nn.AvgPool2d(3, padding=1, stride=2)
        self.picture = nn.Sequential(_conv(3, 3, 3), _conv(3, cout, 1, act=False))
        self.act = nn.PReLU(cout)

    def forward(self, x: torch.Tensor, picture: torch.Tensor) -> torch.Tensor:
        out = torch.cat([self.average(x), self.pyramid(x)], 1)
        return self.act(out + self.picture(picture))


class ESPNetV2(nn.Module):
    #: channels, blocks, reach of the reduction, reach of the blocks
    STAGES = ((64, 0, 13, 13), (128, 3, 11, 9), (256, 7, 9, 7), (512, 3, 7, 5))

    def __init__(self, width: float = 1.0, depth: float = 1.0, classes: int = 1000) -> None:
        super().__init__()
        cin = scaled(32, width)
        self.stem = _conv(3, cin, 3, 2)
        self.downs, self.bodies = nn.ModuleList(), nn.ModuleList()
        for channels, count, first, reach in self.STAGES:
            cout = scaled(channels, width, 16)
            self.downs.append(Down(cin, cout, first))
            blocks = range(repeats(count, depth) if count else 0)
            self.bodies.append(nn.Sequential(*(Pyramid(cout, cout, 1, reach) for _ in blocks)))
            cin = cout
        last = scaled(1024, width)
        self.head = nn.Sequential(_conv(cin, cin, 3, groups=cin), _conv(cin, last, 1, 1, _WAYS))
        self.dropout = nn.Dropout(0.2)
        self.classifier = nn.Linear(last, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        picture = F.avg_pool2d(x, 3, stride=2, padding=1)
        x = self.stem(x)
        for down, body in zip(self.downs, self.bodies, strict=True):
            picture = F.avg_pool2d(picture, 3, stride=2, padding=1)
            x = body(down(x, picture))
        x = F.adaptive_avg_pool2d(self.head(x), output_size=1)
        return self.classifier(self.dropout(x).reshape(x.size(0), -1))


NETS = (
    Net(
        "espnetv2",
        ESPNetV2,
        public={},
        tiny={"width": 0.5, "depth": 0.3, "classes": 10},
        tiny_size=(64, 64),
        published=Published(1_670_000, None, (224, 224), "the paper: 1.67 M"),
    ),
)
