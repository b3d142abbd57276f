"""HRNet-W18-C, Wang et al. 2019, arXiv:1908.07919: parallel resolutions that exchange features."""

from __future__ import annotations

import itertools

import torch.nn.functional as F
from torch import Tensor, nn

from tests.zoo.blocks import conv_bn, repeats, scaled
from tests.zoo.resnet import Basic, Bottleneck
from tests.zoo.zoo import TIMM, Net, Published


class _Exchange(nn.Module):
    """Blocks on each resolution; then each output is the sum of all resolutions, resampled."""

    def __init__(self, channels: list[int], blocks: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Sequential(*(Basic(c, c, 1, 1, 64) for _ in range(blocks))) for c in channels
        )
        self.fuse = nn.ModuleList(
            nn.ModuleList(self._way(channels, source, target) for source in range(len(channels)))
            for target in range(len(channels))
        )

    @staticmethod
    def _way(channels: list[int], source: int, target: int) -> nn.Module:
        cin, cout = channels[source], channels[target]
        if source == target:
            return nn.Identity()
        if source > target:
            up = nn.Upsample(scale_factor=2 ** (source - target), mode="nearest")
            return nn.Sequential(conv_bn(cin, cout, act=None), up)
        steps = [conv_bn(cin, cin, 3, 2) for _ in range(target - source - 1)]
        return nn.Sequential(*steps, conv_bn(cin, cout, 3, 2, act=None))

    def forward(self, xs: list[Tensor]) -> list[Tensor]:
        assert len(xs) == len(self.branches)
        ys = [branch(x) for branch, x in zip(self.branches, xs, strict=True)]
        found = []
        for ways in self.fuse:
            total = ways[0](ys[0])
            for way, y in zip(list(ways)[1:], ys[1:], strict=True):
                total = total + way(y)
            found.append(F.relu(total, inplace=True))
        return found


class HRNet(nn.Module):
    """Stem, bottlenecks, three multi-resolution stages, and the classification head."""

    def __init__(
        self, width: float = 1.0, depth: float = 1.0, branch: int = 18, classes: int = 1000
    ) -> None:
        super().__init__()
        c = [scaled(branch << i, width, 2) for i in range(4)]
        stem = scaled(64, width)
        self.stem = nn.Sequential(conv_bn(3, stem, 3, 2), conv_bn(stem, stem, 3, 2))
        count = repeats(4, depth)
        first = [Bottleneck(stem if i == 0 else 4 * stem, stem, 1, 1, 64) for i in range(count)]
        self.first = nn.Sequential(*first)
        self.starts = nn.ModuleList(
            [nn.ModuleList([conv_bn(4 * stem, c[0], 3), conv_bn(4 * stem, c[1], 3, 2)]),
             nn.ModuleList([conv_bn(c[1], c[2], 3, 2)]),
             nn.ModuleList([conv_bn(c[2], c[3], 3, 2)])]
        )  # fmt: skip
        self.stages = nn.ModuleList(
            nn.ModuleList(_Exchange(c[:size], count) for _ in range(repeats(modules, depth)))
            for size, modules in ((2, 1), (3, 4), (4, 3))
        )
        wide = [scaled(n, width) for n in (32, 64, 128, 256)]
        self.grow = nn.ModuleList(Bottleneck(a, b, 1, 1, 64) for a, b in zip(c, wide, strict=True))
        self.down = nn.ModuleList()
        for small, large in itertools.pairwise(wide):
            conv = nn.Conv2d(4 * small, 4 * large, 3, 2, 1)  # the public weights have a bias here
            self.down.append(nn.Sequential(conv, nn.BatchNorm2d(4 * large), nn.ReLU(True)))
        last = scaled(2048, width)
        self.final = nn.Sequential(
            nn.Conv2d(4 * wide[3], last, 1), nn.BatchNorm2d(last), nn.ReLU(inplace=True)
        )
        self.classifier = nn.Linear(last, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(self.stem(x))
        xs = [start(x) for start in self.starts[0]]
        for i, modules in enumerate(self.stages):
            if i:
                xs = [*xs, self.starts[i][0](xs[-1])]
            for module in modules:
                xs = module(xs)
        y = self.grow[0](xs[0])
        for grow, down, x in zip(list(self.grow)[1:], self.down, xs[1:], strict=True):
            y = grow(x) + down(y)
        y = self.final(y)
        y = F.avg_pool2d(y, kernel_size=y.shape[2:])
        return self.classifier(y.view(y.size(0), -1))


NETS = (
    Net(
        "hrnet_w18", HRNet, {}, {"width": 0.25, "depth": 0.25, "classes": 10}, (64, 64),
        Published(21_300_000, None, (224, 224), TIMM),
    ),
)  # fmt: skip
