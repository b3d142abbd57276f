"""ConvNeXt-T, Liu et al. 2022, arXiv:2201.03545, table 9; with batch norms in place of its layer
norms where asked, the form that runs on integers alone. ConvNeXt V2, Woo et al. 2023,
arXiv:2301.00808: a global response norm in place of the learned scale."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn

from tests.zoo.blocks import repeats, scaled
from tests.zoo.zoo import TORCHVISION, Net, Published


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of an NCHW map."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=1e-6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.layer_norm(
            x.permute(0, 2, 3, 1), self.normalized_shape, self.weight, self.bias, self.eps
        )
        return x.permute(0, 3, 1, 2)


class Block(nn.Module):
    """Depthwise 7x7, norm, two 1x1 with a GELU in between, a learned scale, a shortcut."""

    def __init__(self, channels: int, norm: Callable[[int], nn.Module]) -> None:
        super().__init__()
        self.dwconv = nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
        self.norm = norm(channels)
        self.pwconv1 = nn.Conv2d(channels, 4 * channels, 1)
        self.act = nn.GELU()
        self.pwconv2 = nn.Conv2d(4 * channels, channels, 1)
        self.gamma = nn.Parameter(torch.full((channels, 1, 1), 1e-6))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = self.pwconv2(self.act(self.pwconv1(self.norm(self.dwconv(x)))))
        return x + self.gamma * out


class ResponseNorm(nn.Module):
    """Each channel's length over the map, by the mean of all channels' lengths."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.linspace(-0.5, 0.5, channels)[:, None, None])
        self.bias = nn.Parameter(torch.zeros(channels, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        length = torch.linalg.vector_norm(x, ord=2, dim=(2, 3), keepdim=True)
        share = length / (length.mean(1, keepdim=True) + 1e-6)
        return x + (self.weight * (x * share) + self.bias)


class BlockV2(Block):
    def __init__(self, channels: int, norm: Callable[[int], nn.Module]) -> None:
        super().__init__(channels, norm)
        self.grn = ResponseNorm(4 * channels)
        del self.gamma

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = self.act(self.pwconv1(self.norm(self.dwconv(x))))
        return x + self.pwconv2(self.grn(out))


class ConvNeXt(nn.Module):
    def __init__(
        self,
        norm: str = "layer",
        width: float = 1.0,
        depth: float = 1.0,
        classes: int = 1000,
        first: int = 96,
        depths: tuple[int, ...] = (3, 3, 9, 3),
        block: type[Block] = Block,
    ) -> None:
        super().__init__()
        make = ChannelNorm if norm == "layer" else nn.BatchNorm2d
        cin = scaled(first, width)
        self.features = nn.Sequential(nn.Conv2d(3, cin, 4, 4), make(cin))
        for i, count in enumerate(depths):
            cout = scaled(first << i, width)
            if i > 0:
                self.features.extend([make(cin), nn.Conv2d(cin, cout, 2, 2)])
            self.features.extend(block(cout, make) for _ in range(repeats(count, depth)))
            cin = cout
        self.norm = make(cin)
        self.head = nn.Linear(cin, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.adaptive_avg_pool2d(self.features(x), 1)
        return self.head(self.norm(x).flatten(1))


NETS = (
    Net(
        "convnext_tiny",
        ConvNeXt,
        public={},
        tiny={"norm": "batch", "width": 0.1, "depth": 0.2, "classes": 10},
        tiny_size=(64, 64),
        published=Published(28_589_128, 4_456_000_000, (224, 224), TORCHVISION),
    ),
    Net(
        "convnext_v2_atto",
        ConvNeXt,
        public={"first": 40, "depths": (2, 2, 6, 2), "block": BlockV2},
        tiny={"norm": "batch", "width": 0.1, "depth": 0.2, "classes": 10, "block": BlockV2},
        tiny_size=(64, 64),
        published=Published(3_708_400, None, (224, 224), "Woo et al. 2023, table 12: 3.7 M"),
    ),
)
