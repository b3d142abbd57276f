"""MobileNetV3 (arXiv:1905.02244) under SSDLite's and LR-ASPP's heads, as torchvision has them."""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.zoo.blocks import conv_bn, repeats, scaled
from tests.zoo.mobilenet import LARGE, BneckV3
from tests.zoo.zoo import TORCHVISION, Net, Published


def _stages(width: float, depth: float, tail: int) -> tuple[nn.ModuleList, list[int]]:
    """The stem with the first stage, five more stages, and each one's channels.

    tail: the last stage's channels are divided by it.
    """
    cin = scaled(16, width)
    stages: list[nn.Module] = []
    channels = []
    for number, stage in enumerate(LARGE):
        blocks = [conv_bn(3, cin, 3, 2, act=nn.Hardswish, eps=1e-3)] if number == 0 else []
        for i, (kernel, hidden, cout, gate, hard, stride) in enumerate(
            stage[: repeats(len(stage), depth)]
        ):
            last = number == len(LARGE) - 1
            wide = scaled(hidden // tail if last and i > 0 else hidden, width)
            out = scaled(cout // tail if last else cout, width)
            blocks.append(BneckV3(cin, kernel, wide, out, gate, hard, stride))
            cin = out
        stages.append(nn.Sequential(*blocks))
        channels.append(cin)
    return nn.ModuleList(stages), channels


def _separable_head(cin: int, cout: int) -> nn.Sequential:
    return nn.Sequential(conv_bn(cin, cin, 3, groups=cin, act=nn.ReLU6), nn.Conv2d(cin, cout, 1))


class SSDLite(nn.Module):
    """Six maps; the first one is what the last stage's first block expands to."""

    def __init__(
        self, width: float = 1.0, depth: float = 1.0, classes: int = 91, boxes: int = 6
    ) -> None:
        super().__init__()
        stages, channels = _stages(width, depth, tail=2)
        first, *rest = stages[5].children()
        expand, *after = first.block.children()
        self.low = nn.Sequential(*(stages[i] for i in range(5)), expand)
        last = scaled(6 * channels[5])
        self.high = nn.Sequential(*after, *rest, conv_bn(channels[5], last, act=nn.Hardswish))
        c = [expand[0].out_channels, last, *(scaled(n, width) for n in (512, 256, 256, 128))]
        self.extras = nn.ModuleList(
            nn.Sequential(
                conv_bn(cin, cout // 2, act=nn.ReLU6),
                conv_bn(cout // 2, cout // 2, 3, 2, cout // 2, nn.ReLU6),
                conv_bn(cout // 2, cout, act=nn.ReLU6),
            )
            for cin, cout in itertools.pairwise(c[1:])
        )
        self.labels = nn.ModuleList(_separable_head(n, boxes * classes) for n in c)
        self.boxes = nn.ModuleList(_separable_head(n, boxes * 4) for n in c)
        self.classes = classes

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        low = self.low(x)
        maps = [low, self.high(low)]
        for extra in self.extras:
            maps.append(extra(maps[-1]))
        labels = [self._rows(f(m), self.classes) for f, m in zip(self.labels, maps, strict=True)]
        boxes = [self._rows(f(m), 4) for f, m in zip(self.boxes, maps, strict=True)]
        return torch.concat(labels, dim=1), torch.concat(boxes, dim=1)

    @staticmethod
    def _rows(x: Tensor, columns: int) -> Tensor:
        x = x.unflatten(1, (-1, columns)).permute(0, 3, 4, 1, 2)
        return x.flatten(1, 3)


class LRASPP(nn.Module):
    """The last stage dilated; a gate from the mean of the whole, joined with stride 8."""

    def __init__(self, width: float = 1.0, depth: float = 1.0, classes: int = 21) -> None:
        super().__init__()
        stages, channels = _stages(width, depth, tail=1)
        for conv in stages[5].modules():
            if isinstance(conv, nn.Conv2d) and conv.groups > 1:
                reach = conv.kernel_size[0] - 1
                conv.stride, conv.dilation, conv.padding = (1, 1), (2, 2), (reach, reach)
                conv._reversed_padding_repeated_twice = [reach] * 4
        self.low = nn.Sequential(*(stages[i] for i in range(3)))
        last, inner = 6 * channels[5], scaled(128, width)
        self.high = nn.Sequential(
            *(stages[i] for i in range(3, 6)), conv_bn(channels[5], last, act=nn.Hardswish)
        )
        self.join = conv_bn(last, inner)
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(last, inner, 1, bias=False), nn.Sigmoid()
        )
        self.low_head = nn.Conv2d(channels[2], classes, 1)
        self.high_head = nn.Conv2d(inner, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        low = self.low(x)
        high = self.high(low)
        y = self.join(high) * self.gate(high)
        y = F.interpolate(y, size=low.shape[-2:], mode="bilinear", align_corners=False)
        y = self.low_head(low) + self.high_head(y)
        return F.interpolate(y, size=x.shape[-2:], mode="bilinear", align_corners=False)


NETS = (
    Net(
        "ssdlite_mobilenet_v3", SSDLite, {}, {"width": 0.25, "depth": 0.1, "classes": 3},
        (128, 128),
        Published(3_440_060, 583_000_000, (320, 320), TORCHVISION),
    ),
    Net(
        "lraspp_mobilenet_v3", LRASPP, {}, {"width": 0.25, "depth": 0.1, "classes": 3}, (64, 64),
        Published(3_221_538, 2_086_000_000, (520, 520), TORCHVISION),
    ),
)  # fmt: skip
