"""The neck: a path aggregation network (Liu et al., CVPR 2018) of CSP layers, as in YOLOX."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from qatspec_vision.layers import ConvBn, initialize
from qatspec_vision.yolo.csp import REPEATS, CSPLayer, repeats_at


class PAN(nn.Module):
    """One top-down and one bottom-up pass, joined by concatenation.

    channels  of the maps, finest first; they are those of the outputs too.

    forward: list of (N, channels[i], H_i, W_i), each half as high and wide as the one before ->
    list of the same shapes.
    """

    def __init__(self, channels: Sequence[int], depth: float, activation: str) -> None:
        super().__init__()
        self.up = nn.Upsample(scale_factor=2, mode="nearest")
        self.reduce, self.top_down = nn.ModuleList(), nn.ModuleList()
        self.down, self.bottom_up = nn.ModuleList(), nn.ModuleList()
        repeats = repeats_at(REPEATS, depth)
        for fine, coarse in pairwise(channels):
            self.reduce.append(ConvBn(coarse, fine, 1, activation=activation))
            self.top_down.append(CSPLayer(2 * fine, fine, repeats, False, activation))
            self.down.append(ConvBn(fine, fine, 3, stride=2, activation=activation))
            self.bottom_up.append(CSPLayer(2 * fine, coarse, repeats, False, activation))
        initialize(self)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        reduced: list[Tensor] = []
        x = maps[len(self.reduce)]
        for level in reversed(range(len(self.reduce))):
            reduced.insert(0, self.reduce[level](x))
            x = self.top_down[level](torch.cat([self.up(reduced[0]), maps[level]], dim=1))
        outputs = [x]
        for level, coarse in enumerate(reduced):
            x = self.bottom_up[level](torch.cat([self.down[level](x), coarse], dim=1))
            outputs.append(x)
        return outputs
