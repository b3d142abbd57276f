"""Picture to picture: CycleGAN's generator (arXiv:1703.10593) with the antialiased resampling of
CUT (arXiv:2007.15651), and the denoiser FFDNet (arXiv:1710.04026)."""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.zoo.blocks import repeats, scaled
from tests.zoo.zoo import Net, Published


class _Blur(nn.Module):
    """Binomial smoothing, then every second pixel; reversed: up by two, smoothed."""

    def __init__(self, channels: int, up: bool = False) -> None:
        super().__init__()
        line = torch.tensor([1.0, 3.0, 3.0, 1.0]) if up else torch.tensor([1.0, 2.0, 1.0])
        kernel = torch.outer(line, line) / line.sum() ** 2 * (4 if up else 1)
        self.register_buffer("kernel", kernel.repeat(channels, 1, 1, 1))
        self.channels, self.up = channels, up
        self.pad = nn.ReplicationPad2d(1) if up else nn.ReflectionPad2d(1)

    def forward(self, x: Tensor) -> Tensor:
        if not self.up:
            return F.conv2d(self.pad(x), self.kernel, stride=2, groups=self.channels)
        x = F.conv_transpose2d(self.pad(x), self.kernel, stride=2, padding=2, groups=self.channels)
        return x[:, :, 1:, 1:][:, :, :-1, :-1]


class _Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.ReflectionPad2d(1), nn.Conv2d(channels, channels, 3), nn.InstanceNorm2d(channels),
            nn.ReLU(True), nn.ReflectionPad2d(1), nn.Conv2d(channels, channels, 3),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return x + F.instance_norm(self.layers(x))


class CycleGAN(nn.Module):
    """Down twice, nine residual blocks, up twice; reflected borders, instance norm."""

    def __init__(self, width: float = 1.0, depth: float = 1.0) -> None:
        super().__init__()
        c = [scaled(n, width) for n in (64, 128, 256)]
        layers = [nn.ReflectionPad2d(3), *self._conv(3, c[0], 7, 0)]
        for cin, cout in itertools.pairwise(c):
            layers += [*self._conv(cin, cout, 3, 1), _Blur(cout)]
        layers += [_Residual(c[2]) for _ in range(repeats(9, depth))]
        for cin, cout in zip(c[:0:-1], c[1::-1], strict=True):
            layers += [_Blur(cin, up=True), *self._conv(cin, cout, 3, 1)]
        self.layers = nn.Sequential(*layers[:-2])
        self.last = nn.Sequential(nn.ReflectionPad2d(3), nn.Conv2d(c[0], 3, 7), nn.Tanh())

    @staticmethod
    def _conv(cin: int, cout: int, kernel: int, padding: int) -> list[nn.Module]:
        conv = nn.Conv2d(cin, cout, kernel, padding=padding)
        return [conv, nn.InstanceNorm2d(cout), nn.ReLU(True)]

    def forward(self, x: Tensor) -> Tensor:
        x = self.layers(x)
        x = torch.instance_norm(x, None, None, None, None, True, 0.1, 1e-5, False)
        return self.last(F.relu(x))


class FFDNet(nn.Module):
    """Works on the four pixels of each 2x2 window at once; the noise level is one more channel."""

    def __init__(
        self, width: float = 1.0, depth: float = 1.0, channels: int = 3, sigma: float = 0.1
    ) -> None:
        super().__init__()
        inner = scaled(96 if channels == 3 else 64, width)
        self.register_buffer("noise", torch.tensor(sigma))
        self.pad, self.down = nn.ReplicationPad2d((0, 0, 0, 0)), nn.PixelUnshuffle(2)
        layers: list[nn.Module] = [nn.Conv2d(4 * channels + 1, inner, 3, padding=1), nn.ReLU()]
        for _ in range(repeats(10 if channels == 3 else 13, depth)):
            layers += [nn.Conv2d(inner, inner, 3, padding=1), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Conv2d(inner, 4 * channels, 3, padding=1))
        self.up = nn.PixelShuffle(2)

    def forward(self, x: Tensor) -> Tensor:
        y = self.down(self.pad(x))
        level = self.noise.view(1, 1, 1, 1).expand(y.size(0), 1, y.size(2), y.size(3))
        return torch.clip(self.up(self.layers(torch.cat((y, level), dim=1))), 0.0, 1.0)


NETS = (
    Net(
        "cyclegan", CycleGAN, {}, {"width": 0.125, "depth": 0.3}, (32, 32),
        Published(11_380_000, None, (256, 256),
                  "github.com/junyanz/pytorch-CycleGAN-and-pix2pix, its log: 11.378 M"),
    ),
    Net("ffdnet", FFDNet, {}, {"width": 0.125, "depth": 0.8}, (16, 16)),
)  # fmt: skip
