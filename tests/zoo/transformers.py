"""Attention: ViT-Tiny (arXiv:2010.11929 at the size of DeiT, arXiv:2012.12877) and MobileViT
(arXiv:2110.02178)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from tests.zoo.blocks import conv_bn, repeats, scaled
from tests.zoo.zoo import TIMM, Net, Published


class _Attention(nn.Module):
    """softmax(q k^T / sqrt(d)) v for each head."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads, self.scale = heads, math.sqrt(channels // heads)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.project = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        n, tokens, channels = x.shape
        qkv = self.qkv(x).reshape(n, tokens, 3, self.heads, channels // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        score = torch.matmul(q, k.transpose(-2, -1))
        score /= self.scale
        share = score.softmax(dim=-1)
        return self.project(torch.transpose(share @ v, 1, 2).reshape(n, tokens, channels))


class _Encoder(nn.Module):
    """Norm, attention, norm, two linear layers, each with a shortcut."""

    def __init__(self, channels: int, heads: int, hidden: int, act: type[nn.Module]) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.attention = _Attention(channels, heads)
        self.mlp = nn.Sequential(
            nn.Linear(channels, hidden), act(), nn.Dropout(0.0), nn.Linear(hidden, channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class ViT(nn.Module):
    """Patches as tokens, a class token, learned positions."""

    def __init__(
        self,
        width: float = 1.0,
        depth: float = 1.0,
        classes: int = 1000,
        size: int = 224,
        patch: int = 16,
        heads: int = 3,
    ) -> None:
        super().__init__()
        channels, tokens = scaled(192, width, 8 * heads), (size // patch) ** 2 + 1
        self.patches = nn.Conv2d(3, channels, patch, patch)
        self.token = nn.Parameter(torch.zeros(1, 1, channels))
        self.positions = nn.Parameter(torch.randn(1, tokens, channels) * 0.02)
        self.blocks = nn.Sequential(
            *(_Encoder(channels, heads, 4 * channels, nn.GELU) for _ in range(repeats(12, depth)))
        )
        self.norm = nn.LayerNorm(channels, eps=1e-6)
        self.head = nn.Linear(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat((self.token.expand(x.shape[0], -1, -1), x), dim=1) + self.positions
        return self.head(self.norm(self.blocks(x))[:, 0])


class _Inverted(nn.Module):
    """MobileNetV2's block with SiLU."""

    def __init__(self, cin: int, cout: int, stride: int, expand: int) -> None:
        super().__init__()
        inner = cin * expand
        self.layers = nn.Sequential(
            conv_bn(cin, inner, act=nn.SiLU), conv_bn(inner, inner, 3, stride, inner, nn.SiLU),
            conv_bn(inner, cout, act=None),
        )  # fmt: skip
        self.shortcut = stride == 1 and cin == cout

    def forward(self, x: Tensor) -> Tensor:
        y = self.layers(x)
        return torch.add(input=x, other=y) if self.shortcut else y


class _MobileViTBlock(nn.Module):
    """Attention among the pixels that have the same place in every 2x2 patch."""

    def __init__(self, channels: int, inner: int, blocks: int, patch: int = 2) -> None:
        super().__init__()
        self.patch = patch
        self.local = nn.Sequential(
            conv_bn(channels, channels, 3, act=nn.SiLU), nn.Conv2d(channels, inner, 1, bias=False)
        )
        self.encoder = nn.Sequential(
            *(_Encoder(inner, 4, 2 * inner, nn.SiLU) for _ in range(blocks)), nn.LayerNorm(inner)
        )
        self.project = conv_bn(inner, channels, act=nn.SiLU)
        self.join = conv_bn(2 * channels, channels, 3, act=nn.SiLU)

    def forward(self, x: Tensor) -> Tensor:
        y = self.local(x)
        n, c, h, w = y.size()
        p = self.patch
        rows, columns = h // p, w // p
        y = y.view(n * c * rows, p, columns, p).transpose(1, 2)
        y = y.reshape(n, c, rows * columns, p * p).transpose(1, 3)
        y = self.encoder(y.reshape(n * p * p, rows * columns, c))
        y = y.contiguous().view(n, p * p, rows * columns, c).transpose(1, 3)
        y = y.reshape(n * c * rows, columns, p, p).transpose(1, 2).reshape(n, c, h, w)
        return self.join(torch.cat((x, self.project(y)), dim=1))


class MobileViT(nn.Module):
    """MobileNetV2's blocks; attention at strides 8, 16 and 32."""

    def __init__(
        self,
        width: float = 1.0,
        depth: float = 1.0,
        classes: int = 1000,
        channels: tuple[int, ...] = (16, 32, 64, 96, 128, 160),
        inner: tuple[int, ...] = (144, 192, 240),
        last: int = 640,
        expand: int = 4,
    ) -> None:
        super().__init__()
        c = [scaled(n, width) for n in channels]
        d, last = [scaled(n, width, 16) for n in inner], scaled(last, width)
        self.stem = conv_bn(3, c[0], 3, 2, act=nn.SiLU)
        layers: list[nn.Module] = [
            _Inverted(c[0], c[1], 1, expand),
            _Inverted(c[1], c[2], 2, expand),
        ]
        layers += [_Inverted(c[2], c[2], 1, expand) for _ in range(repeats(2, depth))]
        for i, blocks in enumerate((2, 4, 3)):
            layers.append(_Inverted(c[2 + i], c[3 + i], 2, expand))
            layers.append(_MobileViTBlock(c[3 + i], d[i], repeats(blocks, depth)))
        self.layers = nn.Sequential(*layers, conv_bn(c[5], last, act=nn.SiLU))
        self.head = nn.Linear(last, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.mean(self.layers(self.stem(x)), dim=[-2, -1]))


_SIZE = (256, 256)
NETS = (
    Net(
        "vit_tiny", ViT, {},
        {"width": 0.25, "depth": 0.25, "classes": 10, "size": 32, "patch": 8}, (32, 32),
        Published(5_717_416, None, (224, 224), "github.com/facebookresearch/deit, its log"),
    ),
    Net(
        "mobilevit_s", MobileViT, {}, {"width": 0.25, "depth": 0.25, "classes": 10}, (64, 64),
        Published(5_580_000, None, _SIZE, TIMM),
    ),
)  # fmt: skip
