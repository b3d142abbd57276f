"""Nets and shorthands for the passes of prepare."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from qatspec.types import QConfig, QSpec

INT8 = QConfig(activation=QSpec(), weight=QSpec(ch_axis=0, averaging_constant=1.0))


def image(*shape: int) -> Tensor:
    """A fixed random tensor."""
    return torch.randn(*(shape or (2, 3, 8, 8)), generator=torch.Generator().manual_seed(0))


class Head(nn.Module):
    """FCOS's head in small: convs shared over levels, a batch norm a level, shared predictors."""

    def __init__(self, levels: int = 5, channels: int = 4) -> None:
        super().__init__()
        self.levels = levels
        self.conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norms = nn.ModuleList(nn.BatchNorm2d(channels) for _ in range(levels))
        self.relu = nn.ReLU()
        self.conv_cls = nn.Conv2d(channels, 2, 1)
        self.conv_reg = nn.Conv2d(channels, 4, 1)
        self.conv_centerness = nn.Conv2d(channels, 1, 1)

    def forward(self, feats: list[Tensor]) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        assert len(feats) == self.levels
        outs: tuple[list[Tensor], list[Tensor], list[Tensor]] = ([], [], [])
        for x, norm in zip(feats, self.norms, strict=True):
            x = self.relu(norm(self.conv(x)))
            outs[0].append(self.conv_cls(x))
            outs[1].append(self.conv_reg(x))
            outs[2].append(self.conv_centerness(x))
        return outs


class Backbone(nn.Module):
    """Five maps, each half as high and wide as the one before."""

    def __init__(self, levels: int = 5, channels: int = 4) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, channels, 3, padding=1), nn.BatchNorm2d(channels), nn.ReLU()
        )
        self.downs = nn.ModuleList(
            nn.Sequential(nn.Conv2d(channels, channels, 3, 2, 1), nn.ReLU())
            for _ in range(levels - 1)
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = [self.stem(x)]
        for down in self.downs:
            maps.append(down(maps[-1]))
        return maps


class Detector(nn.Module):
    """backbone and head, with a loss that must stay in float."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = Backbone()
        self.head = Head()
        self.loss_cls = nn.BCEWithLogitsLoss()

    def forward(self, x: Tensor) -> tuple[list[Tensor], ...]:
        return self.head(self.backbone(x))

    def loss(self, outs: tuple[list[Tensor], ...]) -> Tensor:
        return sum(self.loss_cls(t, torch.zeros_like(t)) for maps in outs for t in maps)
