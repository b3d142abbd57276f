"""Three dimensions: C3D on video (arXiv:1412.0767), 3D U-Net (arXiv:1606.06650) and V-Net
(arXiv:1606.04797) on volumes."""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.zoo.blocks import repeats, scaled
from tests.zoo.dilated import bilinear_kernel
from tests.zoo.zoo import Net, Published


class C3D(nn.Module):
    """Eight convolutions of 3x3x3; the first pool leaves time alone."""

    def __init__(
        self, width: float = 1.0, depth: float = 1.0, classes: int = 487, places: int = 16
    ) -> None:
        super().__init__()
        c = [scaled(n, width) for n in (64, 128, 256, 512, 512)]
        hidden = scaled(4096, width)
        layers: list[nn.Module] = []
        cin = 3
        for i, (cout, count) in enumerate(zip(c, (1, 1, 2, 2, 2), strict=True)):
            for _ in range(repeats(count, depth)):
                layers += [nn.Conv3d(cin, cout, 3, padding=1), nn.ReLU()]
                cin = cout
            shape = (1, 2, 2) if i == 0 else 2
            if i == 4:
                layers.append(nn.ZeroPad3d((1, 1, 1, 1, 0, 0)))
            layers.append(nn.MaxPool3d(shape, shape))
        self.layers = nn.Sequential(*layers)
        self.head = nn.Sequential(
            nn.Linear(places * cin, hidden), nn.ReLU(), nn.Dropout(),
            nn.Linear(hidden, hidden), nn.ReLU(), nn.Dropout(), nn.Linear(hidden, classes),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layers(x).flatten(1))


def _double(cin: int, middle: int, cout: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv3d(cin, middle, 3, padding=1), nn.BatchNorm3d(middle), nn.ReLU(),
        nn.Conv3d(middle, cout, 3, padding=1), nn.BatchNorm3d(cout), nn.ReLU(),
    )  # fmt: skip


class UNet3D(nn.Module):
    """U-Net with 3x3x3 convolutions; channels double before each pool."""

    def __init__(
        self, width: float = 1.0, depth: float = 1.0, classes: int = 3, levels: int = 4
    ) -> None:
        super().__init__()
        c = [scaled(32 << i, width) for i in range(repeats(levels, depth) + 1)]
        self.down = nn.ModuleList(
            _double(cin, a, b) for cin, a, b in zip((3, *c[1:-1]), c[:-1], c[1:], strict=True)
        )
        self.up = nn.ModuleList(nn.ConvTranspose3d(n, n, 2, 2) for n in c[:1:-1])
        self.joins = nn.ModuleList(
            _double(big + small, small, small)
            for big, small in zip(c[:1:-1], c[-2:0:-1], strict=True)
        )
        self.pool = nn.MaxPool3d(2)
        self.head = nn.Conv3d(c[1], classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        skips: list[Tensor] = []
        for down in self.down:
            x = down(self.pool(x) if skips else x)
            skips.append(x)
        for up, join, skip in zip(self.up, self.joins, skips[-2::-1], strict=True):
            x = join(torch.cat((up(x), skip), dim=1))
        return torch.log_softmax(self.head(x), dim=1)


class StandardizedConv3d(nn.Module):
    """A convolution whose filters have mean 0 and variance 1, arXiv:1903.10520."""

    def __init__(self, cin: int, cout: int, kernel: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(cout, cin, kernel, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(cout))

    def forward(self, x: Tensor) -> Tensor:
        dims = (1, 2, 3, 4)
        weight = torch.subtract(self.weight, self.weight.mean(dims, keepdim=True))
        deviation = torch.sqrt(weight.pow(2).mean(dims, keepdim=True) + 1e-5)
        return F.conv3d(x, weight / deviation, self.bias)


class _Stage(nn.Module):
    """Convolutions of 5x5x5 and a shortcut around them all."""

    def __init__(self, channels: int, count: int, cin: int | None = None) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for i in range(count):
            into = cin or channels if i == 0 else channels
            layers += [nn.Conv3d(into, channels, 5, padding=2), nn.BatchNorm3d(channels)]
            layers += [nn.PReLU(channels)] if i < count - 1 else []
        self.layers, self.act = nn.Sequential(*layers), nn.PReLU(channels)

    def forward(self, x: Tensor, shortcut: Tensor) -> Tensor:
        return self.act(torch.add(self.layers(x), shortcut))


class VNet(nn.Module):
    """Strided convolutions down, transposed ones up, each scan normed by itself; the coarse
    prediction is upsampled by a fixed deconvolution for deep supervision."""

    def __init__(
        self, width: float = 1.0, depth: float = 1.0, classes: int = 2, levels: int = 4
    ) -> None:
        super().__init__()
        levels = repeats(levels, depth)
        c = [scaled(16 << i, width) for i in range(levels + 1)]
        counts = [min(i + 1, 3) for i in range(levels + 1)]
        self.norm = nn.InstanceNorm3d(1)
        self.mirror, self.stem = nn.ReflectionPad3d(2), StandardizedConv3d(1, c[0], 5)
        self.gain, self.shift = nn.Parameter(torch.ones(c[0])), nn.Parameter(torch.zeros(c[0]))
        self.border = nn.ReplicationPad3d(1)
        self.down = nn.ModuleList(nn.Conv3d(a, b, 2, 2) for a, b in itertools.pairwise(c))
        self.stages = nn.ModuleList(_Stage(n, k) for n, k in zip(c[1:], counts[1:], strict=True))
        self.up = nn.ModuleList(nn.ConvTranspose3d(b, a, 2, 2) for a, b in itertools.pairwise(c))
        self.joins = nn.ModuleList(
            _Stage(n, k, 2 * n) for n, k in zip(c[:-1], counts[:-1], strict=True)
        )
        self.drop = nn.Dropout3d(0.5)
        self.head, self.coarse = nn.Conv3d(c[0], classes, 1), nn.Conv3d(c[1], classes, 1)
        line = bilinear_kernel(2)[0, 0].diagonal().sqrt()
        kernel = line[:, None, None] * line[:, None] * line
        self.register_buffer("kernel", kernel.repeat(classes, 1, 1, 1, 1))
        self.classes = classes

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        x = self.stem(self.mirror(self.norm(x)))
        x = torch.group_norm(x, 4, self.gain, self.shift)
        skips = [x]
        for down, stage in zip(self.down, self.stages, strict=True):
            x = F.elu(down(x))
            x = stage(x, x)
            skips.append(x)
        x = self.drop(x)
        for level in reversed(range(len(self.up))):
            coarse = x
            x = F.elu(self.up[level](x))
            x = self.joins[level](torch.cat([x, skips[level]], dim=1), x)
        up = F.conv_transpose3d(
            self.border(self.coarse(coarse)), self.kernel, stride=2, padding=3, groups=self.classes
        )
        return {"out": F.log_softmax(self.head(x), dim=1), "coarse": up}


NETS = (
    Net(
        "c3d", C3D, {"classes": 101}, {"width": 0.0625, "classes": 4, "places": 4}, (16, 32, 32),
        Published(78_410_000, 38_500_000_000, (16, 112, 112), "mmaction2 model zoo, C3D"),
    ),
    Net(
        "unet3d", UNet3D, {}, {"width": 0.25, "depth": 0.75}, (8, 8, 8),
        Published(19_070_000, None, (132, 132, 116),
                  "arXiv:1606.06650, section 3; batch norms not counted"),
    ),
    Net("vnet", VNet, {}, {"width": 0.5, "depth": 0.5}, (8, 8, 8), channels=1),
)  # fmt: skip
