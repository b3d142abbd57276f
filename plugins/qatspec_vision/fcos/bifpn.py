"""BiFPN with unweighted sums (after Tan et al., EfficientDet, CVPR 2020).

The paper's learned fusion weights need a division a sum; plain sums cost the chip one add.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from qatspec_vision.layers import ConvBn, SeparableConvBn, initialize


class BiFPNLayer(nn.Module):
    """One top-down and one bottom-up pass. A list of maps, finest first, each half as high and
    wide as the one before -> a list of the same shapes."""

    def __init__(self, channels: int, levels: int) -> None:
        super().__init__()
        self.up = nn.Upsample(scale_factor=2, mode="nearest")
        self.down = nn.MaxPool2d(2, 2)
        self.top_down = nn.ModuleList(
            SeparableConvBn(channels, channels) for _ in range(levels - 1)
        )
        self.bottom_up = nn.ModuleList(
            SeparableConvBn(channels, channels) for _ in range(levels - 1)
        )

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        last = len(self.top_down)
        inner = [maps[last]]
        for level in reversed(range(last)):
            inner.insert(0, self.top_down[level](maps[level] + self.up(inner[0])))
        outputs = [inner[0]]
        for level, fuse in enumerate(self.bottom_up, start=1):
            total = maps[level] + self.down(outputs[-1])
            if level < last:
                total = total + inner[level]
            outputs.append(fuse(total))
        return outputs


class BiFPN(nn.Module):
    """The neck.

    in_channels  of the backbone's maps, finest first.
    channels     of every output.
    stacks       number of BiFPNLayers.
    levels       number of outputs; those beyond the backbone's maps halve the coarsest one.

    forward: list of (N, in_channels[i], H_i, W_i) -> list of `levels` maps (N, channels, H, W),
    each half as high and wide as the one before. H_0 and W_0 are multiples of 2 ** (levels - 1).
    """

    def __init__(self, in_channels: Sequence[int], channels: int, stacks: int, levels: int) -> None:
        super().__init__()
        if levels < max(2, len(in_channels)):
            raise ValueError(f"{len(in_channels)} backbone maps do not fit {levels} neck levels")
        self.lateral = nn.ModuleList(ConvBn(c, channels, activation=None) for c in in_channels)
        self.down = nn.ModuleList(nn.MaxPool2d(2, 2) for _ in range(levels - len(in_channels)))
        self.layers = nn.Sequential(*(BiFPNLayer(channels, levels) for _ in range(stacks)))
        initialize(self)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        features = [lateral(x) for lateral, x in zip(self.lateral, maps, strict=True)]
        for down in self.down:
            features.append(down(features[-1]))
        outputs: list[Tensor] = self.layers(features)
        return outputs
