"""Three-dimensional ResNets on video as torchvision builds them (R3D-18 and MC3-18, Tran et al.
2017, arXiv:1711.11248), a 3-d DenseNet for nodules (after arXiv:1608.06993) and a U-Net on a
periodic box of space (after arXiv:1811.06533)."""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.zoo.blocks import repeats, scaled
from tests.zoo.zoo import TORCHVISION, Net, Published


def _conv3d_bn(
    cin: int, cout: int, kernel: int | tuple[int, ...], stride: int | tuple[int, ...] = 1,
    relu: bool = True,
) -> nn.Sequential:  # fmt: skip
    kernels = (kernel,) * 3 if isinstance(kernel, int) else kernel
    padding = tuple(k // 2 for k in kernels)
    conv = nn.Conv3d(cin, cout, kernels, stride, padding, bias=False)
    return nn.Sequential(conv, nn.BatchNorm3d(cout), *([nn.ReLU(inplace=True)] if relu else []))


class _Basic(nn.Module):
    def __init__(
        self, cin: int, cout: int, kernel: tuple[int, ...], stride: tuple[int, ...]
    ) -> None:
        super().__init__()
        self.conv1 = _conv3d_bn(cin, cout, kernel, stride)
        self.conv2 = _conv3d_bn(cout, cout, kernel, relu=False)
        same = cin == cout
        self.downsample = None if same else _conv3d_bn(cin, cout, 1, stride, relu=False)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        y = self.conv2(self.conv1(x))
        y += shortcut
        return F.relu(y)


class VideoResNet(nn.Module):
    """ResNet-18 over time and space.

    mixed: only the first stage looks along time (MC3); the others filter each picture.
    """

    def __init__(
        self, width: float = 1.0, depth: float = 1.0, classes: int = 400, mixed: bool = False
    ) -> None:
        super().__init__()
        c = [scaled(n, width) for n in (64, 64, 128, 256, 512)]
        layers: list[nn.Module] = [_conv3d_bn(3, c[0], (3, 7, 7), (1, 2, 2))]
        for i, (cin, cout) in enumerate(itertools.pairwise(c)):
            flat = mixed and i > 0
            kernel, along = (1, 3, 3) if flat else (3, 3, 3), 1 if flat else 2
            for j in range(repeats(2, depth)):
                stride = (along, 2, 2) if i > 0 and j == 0 else (1, 1, 1)
                layers.append(_Basic(cout if j else cin, cout, kernel, stride))
        self.layers = nn.Sequential(*layers)
        self.pool, self.head = nn.AdaptiveAvgPool3d((1, 1, 1)), nn.Linear(c[4], classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.pool(self.layers(x)).flatten(1))


class _Dense(nn.Module):
    """Batch norm and relu first; what it adds is joined to what it got."""

    def __init__(self, cin: int, growth: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = nn.BatchNorm3d(cin), nn.Conv3d(cin, 4 * growth, 1, bias=False)
        self.norm2 = nn.BatchNorm3d(4 * growth)
        self.conv2 = nn.Conv3d(4 * growth, growth, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(F.relu(self.norm1(x)))
        y = self.conv2(F.relu(self.norm2(y)))
        return torch.cat((x, F.dropout3d(y, 0.1, self.training)), dim=1)


class NoduleNet(nn.Module):
    """Three dense blocks, means between them, means and maxima at the end."""

    def __init__(
        self, width: float = 1.0, depth: float = 1.0, classes: int = 2, blocks: int = 6
    ) -> None:
        super().__init__()
        growth, cin = scaled(16, width, 4), scaled(32, width, 4)
        self.pad = nn.ConstantPad3d(1, -1.0)  # air
        self.stem = nn.Sequential(nn.Conv3d(1, cin, 3, bias=False), nn.BatchNorm3d(cin), nn.ReLU())
        self.blocks, self.shrink = nn.ModuleList(), nn.ModuleList()
        for _ in range(3):
            count = repeats(blocks, depth)
            self.blocks.append(
                nn.Sequential(*(_Dense(cin + i * growth, growth) for i in range(count)))
            )
            cin = (cin + count * growth) // 2
            self.shrink.append(nn.Conv3d(2 * cin, cin, 1, bias=False))
        self.pool = nn.AvgPool3d(2)
        self.most, self.head = nn.AdaptiveMaxPool3d(1), nn.Linear(10 * cin, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(self.pad(x))
        x = self.pool(self.shrink[0](self.blocks[0](x)))
        x = F.avg_pool3d(self.shrink[1](self.blocks[1](x)), kernel_size=2, stride=2)
        x = self.shrink[2](self.blocks[2](x))
        pooled = [F.adaptive_avg_pool3d(x, 1), self.most(x), F.adaptive_max_pool3d(x, 2)]
        return self.head(torch.cat([p.flatten(1) for p in pooled], dim=1))


class PeriodicUNet(nn.Module):
    """Displacements of particles in a box whose opposite faces touch."""

    def __init__(self, width: float = 1.0, depth: float = 1.0, first: int = 64) -> None:
        super().__init__()
        c = [scaled(first << i, width) for i in range(3)]
        count = repeats(2, depth)
        self.down = nn.ModuleList(
            self._convs(a, b, count) for a, b in zip((3, *c[:2]), c, strict=True)
        )
        self.up = nn.ModuleList(
            nn.ConvTranspose3d(b, a, 2, 2) for a, b in ((c[1], c[2]), (c[0], c[1]))
        )
        self.joins = nn.ModuleList(self._convs(2 * n, n, count) for n in (c[1], c[0]))
        self.head = nn.Conv3d(c[0], 3, 1)

    @staticmethod
    def _convs(cin: int, cout: int, count: int) -> nn.Sequential:
        layers: list[nn.Module] = []
        for i in range(count):
            layers += [nn.CircularPad3d(1), nn.Conv3d(cout if i else cin, cout, 3)]
            layers += [nn.BatchNorm3d(cout), nn.ReLU()]
        return nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        a = self.down[0](x)
        b = self.down[1](F.max_pool3d(a, 2))
        y = self.down[2](torch.max_pool3d(b, 2, 2))
        y = self.joins[0](torch.cat((b, self.up[0](y)), dim=1))
        return self.head(self.joins[1](torch.cat((a, self.up[1](y)), dim=1))) + x


_CLIP = (16, 112, 112)
_TINY = {"width": 0.125, "depth": 0.5, "classes": 4}
NETS = (
    Net("r3d_18", VideoResNet, {}, _TINY, (8, 32, 32),
        Published(33_371_472, 40_697_000_000, _CLIP, TORCHVISION)),
    Net("mc3_18", VideoResNet, {"mixed": True}, {**_TINY, "mixed": True}, (8, 32, 32),
        Published(11_695_440, 43_343_000_000, _CLIP, TORCHVISION)),
    Net("nodule_net", NoduleNet, {}, {"width": 0.25, "depth": 0.25}, (8, 8, 8), channels=1),
    Net("periodic_unet", PeriodicUNet, {}, {"width": 0.125}, (8, 8, 8)),
)  # fmt: skip
