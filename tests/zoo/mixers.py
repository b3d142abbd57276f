"""Nets that mix tokens without attention: MLP-Mixer (arXiv:2105.01601), PoolFormer
(arXiv:2111.11418)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.zoo.blocks import repeats, scaled
from tests.zoo.zoo import TIMM, Net, Published


class _MixerBlock(nn.Module):
    """Two linear layers along the tokens, two along the channels."""

    def __init__(self, tokens: int, channels: int, token_hidden: int, hidden: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(channels, eps=1e-6) for _ in range(2))
        self.token1, self.token2 = nn.Linear(tokens, token_hidden), nn.Linear(token_hidden, tokens)
        self.channel1, self.channel2 = nn.Linear(channels, hidden), nn.Linear(hidden, channels)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.permute(self.norms[0](x), (0, 2, 1))
        y = self.token2(F.gelu(self.token1(y)))
        x = x + torch.permute(y, (0, 2, 1))
        return x + self.channel2(F.gelu(self.channel1(self.norms[1](x))))


class Mixer(nn.Module):
    """MLP-Mixer-S/16."""

    def __init__(
        self,
        width: float = 1.0,
        depth: float = 1.0,
        classes: int = 1000,
        size: int = 224,
        patch: int = 16,
    ) -> None:
        super().__init__()
        channels, tokens = scaled(512, width), (size // patch) ** 2
        self.patches = nn.Conv2d(3, channels, patch, patch)
        self.blocks = nn.ModuleList(
            _MixerBlock(tokens, channels, channels // 2, 4 * channels)
            for _ in range(repeats(8, depth))
        )
        self.norm = nn.LayerNorm(channels, eps=1e-6)
        self.head = nn.Linear(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.transpose(torch.flatten(self.patches(x), start_dim=2), 1, 2)
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x).mean(dim=1))


class _PoolBlock(nn.Module):
    """A 3x3 mean minus the pixel itself, then two 1x1 convolutions; each scaled per channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(1, channels), nn.GroupNorm(1, channels)
        self.pool = nn.AvgPool2d(3, 1, 1, count_include_pad=False)
        self.conv1 = nn.Conv2d(channels, 4 * channels, 1)
        self.conv2 = nn.Conv2d(4 * channels, channels, 1)
        self.scale1 = nn.Parameter(torch.full((channels,), 1e-2))
        self.scale2 = nn.Parameter(torch.full((channels,), 1e-2))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm1(x)
        pooled = self.pool(y)
        pooled -= y
        x = x + self.scale1.unsqueeze(-1).unsqueeze(-1) * pooled
        y = self.conv2(F.gelu(self.conv1(self.norm2(x))))
        return x + self.scale2.unsqueeze(-1).unsqueeze(-1) * y


class PoolFormer(nn.Module):
    """PoolFormer-S12."""

    def __init__(self, width: float = 1.0, depth: float = 1.0, classes: int = 1000) -> None:
        super().__init__()
        c = [scaled(n, width) for n in (64, 128, 320, 512)]
        layers: list[nn.Module] = []
        for i, count in enumerate((2, 2, 6, 2)):
            shape = (7, 4, 2) if i == 0 else (3, 2, 1)
            layers.append(nn.Conv2d(c[i - 1] if i else 3, c[i], *shape))
            layers += [_PoolBlock(c[i]) for _ in range(repeats(count, depth))]
        self.layers = nn.Sequential(*layers)
        self.norm = nn.GroupNorm(1, c[3])
        self.head = nn.Linear(c[3], classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.layers(x)).mean([-2, -1]))


NETS = (
    Net(
        "mlp_mixer_s16", Mixer, {},
        {"width": 0.125, "depth": 0.25, "classes": 10, "size": 32, "patch": 8}, (32, 32),
        Published(18_530_000, None, (224, 224), TIMM),
    ),
    Net(
        "poolformer_s12", PoolFormer, {}, {"width": 0.125, "depth": 0.5, "classes": 10}, (64, 64),
        Published(11_920_000, None, (224, 224), TIMM),
    ),
)  # fmt: skip
