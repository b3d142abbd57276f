"""Encoder-decoders with skips: U-Net (arXiv:1505.04597), U-Net++ (arXiv:1807.10165), SegNet
(arXiv:1511.00561) and the Siamese difference U-Net of change detection (FC-Siam-diff,
arXiv:1810.08462)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from tests.zoo.blocks import conv_bn, repeats, scaled
from tests.zoo.zoo import Net, Published


def _channels(first: int, levels: int, width: float) -> list[int]:
    return [scaled(first * 2**i, width) for i in range(levels)]


class _Double(nn.Module):
    """Two convolutions; without batch norm as the paper draws it."""

    def __init__(self, cin: int, cout: int, norm: bool, blocks: int = 2) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for i in range(blocks):
            layers.append(nn.Conv2d(cout if i else cin, cout, 3, padding=1, bias=not norm))
            layers += [nn.BatchNorm2d(cout)] if norm else []
            layers.append(nn.ReLU(True))
        self.layers = nn.Sequential(*layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)


class UNet(nn.Module):
    """Max pools down, transposed convolutions up, concatenation with what is as large."""

    def __init__(
        self,
        width: float = 1.0,
        depth: float = 1.0,
        classes: int = 2,
        channels: int = 1,
        levels: int = 5,
        norm: bool = False,
    ) -> None:
        super().__init__()
        c = _channels(64, levels, width)
        n = repeats(2, depth)
        self.downs = nn.ModuleList(
            _Double(cin, cout, norm, n) for cin, cout in zip((channels, *c[:-1]), c, strict=True)
        )
        self.ups = nn.ModuleList(
            nn.ConvTranspose2d(big, small, kernel_size=2, stride=2)
            for small, big in zip(c[-2::-1], c[:0:-1], strict=True)
        )
        self.joins = nn.ModuleList(_Double(2 * small, small, norm, n) for small in c[-2::-1])
        self.pool = nn.MaxPool2d(2)
        self.head = nn.Conv2d(c[0], classes, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        skips = []
        for down in self.downs[:-1]:
            x = down(x)
            skips.append(x)
            x = self.pool(x)
        x = self.downs[-1](x)
        for up, join, skip in zip(self.ups, self.joins, reversed(skips), strict=True):
            x = join(torch.cat([skip, up(x)], dim=1))
        return self.head(x)


class UNetPP(nn.Module):
    """Nested and dense skips; a head on each node of the top row (deep supervision)."""

    def __init__(
        self,
        width: float = 1.0,
        depth: float = 1.0,
        classes: int = 1,
        channels: int = 3,
        levels: int = 5,
    ) -> None:
        super().__init__()
        c = _channels(32, levels, width)
        n = repeats(2, depth)
        self.levels = levels
        self.nodes = nn.ModuleDict()
        self.ups = nn.ModuleDict()
        for i in range(levels):
            self.nodes[f"{i}_0"] = _Double(c[i - 1] if i else channels, c[i], norm=True, blocks=n)
            for j in range(1, levels - i):
                self.ups[f"{i}_{j}"] = nn.ConvTranspose2d(c[i + 1], c[i], 2, 2)
                self.nodes[f"{i}_{j}"] = _Double((j + 1) * c[i], c[i], norm=True, blocks=n)
        self.heads = nn.ModuleList(nn.Conv2d(c[0], classes, 1) for _ in range(levels - 1))

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        done: dict[tuple[int, int], torch.Tensor] = {}
        for i in range(self.levels):
            x = x if i == 0 else F.max_pool2d(done[i - 1, 0], kernel_size=2)
            done[i, 0] = self.nodes[f"{i}_0"](x)
            for j in range(1, i + 1):
                row = i - j
                before = [done[row, k] for k in range(j)]
                up = self.ups[f"{row}_{j}"](done[row + 1, j - 1])
                done[row, j] = self.nodes[f"{row}_{j}"](torch.concat((*before, up), dim=1))
        return [torch.sigmoid(h(done[0, j])) for j, h in enumerate(self.heads, start=1)]


class SegNet(nn.Module):
    """VGG16's convolutions, and the same mirrored. Upsampling repeats pixels where the paper puts
    each maximum back to its place, which no chip can do."""

    def __init__(self, width: float = 1.0, depth: float = 1.0, classes: int = 12) -> None:
        super().__init__()
        c = [scaled(n, width) for n in (64, 128, 256, 512, 512)]
        blocks = [repeats(n, depth) for n in (2, 2, 3, 3, 3)]
        cin, down, up = 3, [], []
        for count, cout in zip(blocks, c, strict=True):
            down.append(nn.Sequential(*(conv_bn(cin if i == 0 else cout, cout, 3)
                                        for i in range(count))))  # fmt: skip
            cin = cout
        for count, cin, cout in zip(blocks[::-1], c[::-1], (*c[-2::-1], c[0]), strict=True):
            up.append(nn.Sequential(*(conv_bn(cin, cin if i < count - 1 else cout, 3)
                                      for i in range(count))))  # fmt: skip
        self.down, self.up = nn.ModuleList(down), nn.ModuleList(up)
        self.head = nn.Conv2d(c[0], classes, 3, padding=1)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        for stage in self.down:
            x = F.max_pool2d(stage(x), 2, stride=2)
        for stage in self.up:
            x = stage(F.interpolate(x, scale_factor=(2.0, 2.0)))
        logits = self.head(x)
        return {"logits": logits, "labels": torch.argmax(logits, dim=1)}


class SiamDiff(nn.Module):
    """Two pictures, stacked as channels, through one encoder; the decoder sees how they differ."""

    def __init__(self, width: float = 1.0, depth: float = 1.0, classes: int = 2) -> None:
        super().__init__()
        c = [scaled(n, width) for n in (16, 32, 64, 128)]
        n = [repeats(k, depth) for k in (2, 2, 3, 3)]
        self.down = nn.ModuleList()
        for cin, cout, count in zip((3, *c[:3]), c, n, strict=True):
            self.down.append(
                nn.Sequential(*(self._conv(cout if i else cin, cout) for i in range(count)))
            )
        self.ups, self.joins = nn.ModuleList(), nn.ModuleList()
        self.shares = nn.LogSoftmax(dim=1)
        for level in reversed(range(4)):
            cout = c[max(level - 1, 0)]
            self.ups.append(
                nn.ConvTranspose2d(c[level], c[level], 3, stride=2, padding=1, output_padding=1)
            )
            widths = [2 * c[level], *[c[level]] * (n[level] - 1)]
            layers = [self._conv(w, c[level]) for w in widths[:-1]]
            last = nn.Conv2d(widths[-1], classes, 3, padding=1)
            self.joins.append(
                nn.Sequential(*layers, self._conv(widths[-1], cout) if level else last)
            )

    @staticmethod
    def _conv(cin: int, cout: int) -> nn.Sequential:
        conv = nn.Conv2d(cin, cout, 3, padding=1)
        return nn.Sequential(conv, nn.BatchNorm2d(cout), nn.ReLU(), nn.Dropout2d(0.2))

    def forward(self, pair: torch.Tensor) -> torch.Tensor:
        before, after = pair.split(3, dim=1)
        differences = []
        for stage in self.down:
            before, after = stage(before), stage(after)
            differences.append(torch.abs(before - after))
            before, after = F.max_pool2d(before, 2), F.max_pool2d(after, 2)
        x = after
        for up, join, difference in zip(self.ups, self.joins, differences[::-1], strict=True):
            x = join(torch.cat((up(x), difference), 1))
        return self.shares(x)


NETS = (
    Net(
        "unet", UNet, {}, {"width": 0.125, "levels": 4}, (32, 32),
        Published(31_030_000, None, (512, 512),
                  "github.com/zhixuhao/unet; its head has one more layer"),
        channels=1,
    ),
    Net(
        "unet_pp", UNetPP, {}, {"width": 0.25, "levels": 3}, (32, 32),
        Published(9_040_000, None, (96, 96), "arXiv:1807.10165, table 2"),
    ),
    Net(
        "segnet", SegNet, {}, {"width": 0.125, "depth": 0.5, "classes": 4}, (32, 32),
        Published(29_460_000, None, (360, 640), "arXiv:1606.02147, table 4"),
    ),
    Net(
        "siam_diff", SiamDiff, {}, {"width": 0.5, "depth": 0.5}, (32, 32),
        Published(1_350_146, None, (256, 256), "github.com/likyoo/Siam-NestedUNet, its table"),
        channels=6,
    ),
)  # fmt: skip
