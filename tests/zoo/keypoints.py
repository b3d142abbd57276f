"""Nets that predict heat maps: SimpleBaseline (arXiv:1804.06208), CenterNet (arXiv:1904.07850),
stacked hourglass (arXiv:1603.06937)."""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.zoo.blocks import repeats, scaled
from tests.zoo.features import ResNetFeatures
from tests.zoo.zoo import Net, Published


def _deconv(cin: int, cout: int) -> list[nn.Module]:
    return [
        nn.ConvTranspose2d(cin, cout, 4, 2, 1, bias=False), nn.BatchNorm2d(cout), nn.ReLU(True),
    ]  # fmt: skip


class SimpleBaseline(nn.Module):
    """A ResNet, three deconvolutions, one 1x1 convolution: a heat map for each joint."""

    def __init__(
        self, layers: int = 50, width: float = 1.0, depth: float = 1.0, joints: int = 17
    ) -> None:
        super().__init__()
        self.body = ResNetFeatures(layers, width, depth)
        channels = scaled(256, width)
        cins = (self.body.channels[3], channels, channels)
        self.up = nn.Sequential(*(layer for cin in cins for layer in _deconv(cin, channels)))
        self.head = nn.Conv2d(channels, joints, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.up(self.body(x)[-1]))


class CenterNet(nn.Module):
    """Convolution and deconvolution three times; centres, sizes and offsets, decoded to the place
    of the best centre of each class."""

    def __init__(
        self, layers: int = 18, width: float = 1.0, depth: float = 1.0, classes: int = 80
    ) -> None:
        super().__init__()
        self.body = ResNetFeatures(layers, width, depth)
        c = [self.body.channels[3], *(scaled(n, width) for n in (256, 128, 64))]
        neck: list[nn.Module] = []
        for cin, cout in itertools.pairwise(c):
            neck += [nn.Conv2d(cin, cout, 3, 1, 1, bias=False), nn.BatchNorm2d(cout), nn.ReLU(True)]
            neck += _deconv(cout, cout)
        self.neck = nn.Sequential(*neck)
        outputs = {"heat": classes, "size": 2, "offset": 2}
        self.heads = nn.ModuleDict((name, self._head(c[3], n)) for name, n in outputs.items())

    @staticmethod
    def _head(cin: int, cout: int) -> nn.Sequential:
        return nn.Sequential(nn.Conv2d(cin, cin, 3, 1, 1), nn.ReLU(True), nn.Conv2d(cin, cout, 1))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        x = self.neck(self.body(x)[-1])
        found = {name: head(x) for name, head in self.heads.items()}
        heat = torch.sigmoid(found["heat"])
        peaks = F.max_pool2d(heat.detach(), 3, 1, 1)
        index = peaks.flatten(2).argmax(2)
        columns = heat.shape[3]
        row = torch.floor_divide(index, columns)
        return {**found, "heat": heat, "row": row, "column": index - row.mul(columns)}


class _Residual(nn.Module):
    """Batch norm and relu before each convolution."""

    def __init__(self, cin: int, cout: int) -> None:
        super().__init__()
        half = cout // 2
        self.norms = nn.ModuleList(nn.BatchNorm2d(c) for c in (cin, half, half))
        self.convs = nn.ModuleList(
            [nn.Conv2d(cin, half, 1), nn.Conv2d(half, half, 3, padding="same"),
             nn.Conv2d(half, cout, 1)]
        )  # fmt: skip
        self.skip = nn.Conv2d(cin, cout, 1) if cin != cout else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for norm, conv in zip(self.norms, self.convs, strict=True):
            y = conv(norm(y).relu_())
        return torch.add(self.skip(x), y)


class _Hourglass(nn.Module):
    """Down to the lowest resolution and back, a residual aside at each."""

    def __init__(self, levels: int, channels: int) -> None:
        super().__init__()
        self.aside, self.before = _Residual(channels, channels), _Residual(channels, channels)
        inner = levels > 1
        self.inside = _Hourglass(levels - 1, channels) if inner else _Residual(channels, channels)
        self.after = _Residual(channels, channels)
        self.pool, self.up = nn.MaxPool2d(2, 2), nn.UpsamplingNearest2d(scale_factor=2)

    def forward(self, x: Tensor) -> Tensor:
        low = self.after(self.inside(self.before(self.pool(x))))
        return self.aside(x) + self.up(low)


class StackedHourglass(nn.Module):
    """Each stack's heat maps go back into the features of the next one."""

    def __init__(
        self,
        width: float = 1.0,
        depth: float = 1.0,
        stacks: int = 8,
        joints: int = 16,
        levels: int = 4,
    ) -> None:
        super().__init__()
        c = [scaled(n, width) for n in (64, 128, 256)]
        stacks = repeats(stacks, depth)
        self.stem = nn.Sequential(
            nn.Conv2d(3, c[0], 7, 2, 3), nn.BatchNorm2d(c[0]), nn.ReLU(), _Residual(c[0], c[1]),
            nn.MaxPool2d(2, 2), _Residual(c[1], c[1]), _Residual(c[1], c[2]),
        )  # fmt: skip
        self.stacks = nn.ModuleList(
            nn.Sequential(
                _Hourglass(levels, c[2]), _Residual(c[2], c[2]),
                nn.Conv2d(c[2], c[2], 1), nn.BatchNorm2d(c[2]), nn.ReLU(),
            )
            for _ in range(stacks)
        )  # fmt: skip
        self.heads = nn.ModuleList(nn.Conv2d(c[2], joints, 1) for _ in range(stacks))
        self.merge = nn.ModuleList(nn.Conv2d(c[2], c[2], 1) for _ in range(stacks - 1))
        self.back = nn.ModuleList(nn.Conv2d(joints, c[2], 1) for _ in range(stacks - 1))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        maps = []
        for i, (stack, head) in enumerate(zip(self.stacks, self.heads, strict=True)):
            feature = stack(x)
            maps.append(head(feature))
            if i < len(self.merge):
                x = x + self.merge[i](feature) + self.back[i](maps[-1])
        return torch.stack(maps, dim=1)


NETS = (
    Net(
        "simple_baseline_r50", SimpleBaseline, {}, {"width": 0.125, "depth": 0.25, "joints": 4},
        (64, 64), Published(34_000_000, None, (256, 192), "arXiv:1902.09212, table 1"),
    ),
    Net("centernet_r18", CenterNet, {}, {"width": 0.125, "depth": 0.5, "classes": 3}, (64, 64)),
    Net(
        "hourglass", StackedHourglass, {},
        {"width": 0.0625, "depth": 0.25, "joints": 4, "levels": 2}, (64, 64),
    ),
)  # fmt: skip
