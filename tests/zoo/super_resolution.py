"""Super resolution: ESPCN (arXiv:1609.05158), FSRCNN (arXiv:1608.00367) and EDSR
(arXiv:1707.02921)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.zoo.blocks import repeats, scaled
from tests.zoo.zoo import Net, Published


class ESPCN(nn.Module):
    """Convolutions at the small size; channels become pixels at the end. More of the middle layer
    makes it deeper than the paper's three."""

    def __init__(
        self, width: float = 1.0, depth: float = 1.0, scale: int = 3, middle: int = 1
    ) -> None:
        super().__init__()
        a, b = scaled(64, width, 4), scaled(32, width, 4)
        self.first = nn.Conv2d(1, a, 5, padding=2)
        self.middle = nn.ModuleList(
            nn.Conv2d(b if i else a, b, 3, padding=1) for i in range(repeats(middle, depth))
        )
        self.last = nn.Conv2d(b, scale**2, 3, padding=1)
        self.shuffle = nn.PixelShuffle(scale)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.first(x))
        for conv in self.middle:
            x = conv(x).tanh_()
        return self.shuffle(self.last(x)).sigmoid()


class FSRCNN(nn.Module):
    """Shrink, map, expand, and one large deconvolution."""

    def __init__(
        self, width: float = 1.0, depth: float = 1.0, scale: int = 3, maps: int = 4
    ) -> None:
        super().__init__()
        wide, narrow = scaled(56, width, 4), scaled(12, width, 4)
        self.feature = nn.Sequential(nn.Conv2d(1, wide, 5, padding=2), nn.PReLU(wide))
        layers: list[nn.Module] = [nn.Conv2d(wide, narrow, 1), nn.PReLU(narrow)]
        layers += [nn.Conv2d(narrow, narrow, 3, padding=1) for _ in range(repeats(maps, depth))]
        layers += [nn.PReLU(narrow), nn.Conv2d(narrow, wide, 1), nn.PReLU(wide)]
        self.body = nn.Sequential(*layers)
        self.up = nn.ConvTranspose2d(wide, 1, 9, scale, 4, scale - 1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.clamp_(self.up(self.body(self.feature(x))), 0.0, 1.0)


class _Block(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(F.relu(self.conv1(x), True)).mul_(0.5).add_(x)


class EDSR(nn.Module):
    """Residual blocks without batch norm, the mean picture taken away and given back."""

    def __init__(
        self, width: float = 1.0, depth: float = 1.0, scale: int = 2, blocks: int = 16
    ) -> None:
        super().__init__()
        channels = scaled(64, width)
        self.register_buffer("mean", torch.tensor([0.4488, 0.4371, 0.4040]).view(1, 3, 1, 1))
        self.head = nn.Conv2d(3, channels, 3, padding=1)
        self.body = nn.Sequential(
            *(_Block(channels) for _ in range(repeats(blocks, depth))),
            nn.Conv2d(channels, channels, 3, padding=1),
        )
        self.up = nn.Conv2d(channels, channels * scale**2, 3, padding=1)
        self.tail = nn.Conv2d(channels, 3, 3, padding=1)
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        x = self.head(torch.sub(x, self.mean))
        x = F.pixel_shuffle(self.up(self.body(x) + x), self.scale)
        return torch.clamp(self.tail(x) + self.mean, 0.0, 1.0)


NETS = (
    Net("espcn", ESPCN, {}, {"width": 0.0625, "scale": 2, "middle": 4}, (16, 16), channels=1),
    Net("fsrcnn", FSRCNN, {}, {"width": 0.0625, "scale": 2}, (16, 16), channels=1),
    Net(
        "edsr", EDSR, {}, {"width": 0.25, "depth": 0.25}, (16, 16),
        Published(1_370_000, 316_300_000_000, (360, 640), "arXiv:1803.08664, table 1: x2"),
    ),
)  # fmt: skip
