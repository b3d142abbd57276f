"""EfficientNet (Tan & Le, ICML 2019) with ReLU or ReLU6 and without squeeze-and-excitation: the
feature extractor.

Both changes are for integer hardware: ReLU fuses into the convolution before it, while swish and
the attention's sigmoid * x need lookup tables and break the fusion.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from qatspec_vision.blocks import VARIANTS, last_stages, scale_channels, stages_of
from qatspec_vision.layers import ConvBn, initialize


class MBConv(nn.Module):
    """Inverted residual: expand 1x1, depthwise kxk, project 1x1 (linear), added to the input where
    stride and channels allow. (N, inputs, H, W) -> (N, outputs, H / stride, W / stride)."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        expand: int,
        stride: int,
        activation: str,
        pad_as_tensorflow: bool = False,
    ) -> None:
        super().__init__()
        hidden = inputs * expand
        self.residual = stride == 1 and inputs == outputs
        self.expand = ConvBn(inputs, hidden, activation=activation) if expand != 1 else None
        self.depthwise = ConvBn(
            hidden,
            hidden,
            kernel,
            stride,
            hidden,
            activation=activation,
            pad_as_tensorflow=pad_as_tensorflow,
        )
        self.project = ConvBn(hidden, outputs, activation=None)

    def forward(self, x: Tensor) -> Tensor:
        hidden = x if self.expand is None else self.expand(x)
        out: Tensor = self.project(self.depthwise(hidden))
        return out + x if self.residual else out


class EfficientNet(nn.Module):
    """The feature extractor: images to one map a stride.

    variant       a name of qatspec_vision.blocks.VARIANTS: width, depth, stages and activation.
    width, depth  override the variant's coefficients.
    blocks        override the stages: mappings with the fields of qatspec_vision.blocks.Block.
    stem          channels of the first convolution (stride 2) before scaling.
    strides       of the maps to return, ascending, each a power of two that the stages reach.
                  Stages beyond the last one are left out.
    padding       at stride 2 (see ConvBn): "same" fits weights that were trained by TensorFlow.

    forward: (N, 3, H, W) -> list of (N, C_i, H / strides[i], W / strides[i]).
    `channels` holds the C_i.
    """

    def __init__(
        self,
        variant: str,
        *,
        stem: int,
        strides: Sequence[int],
        in_channels: int,
        padding: str,
        width: float | None = None,
        depth: float | None = None,
        blocks: Sequence[Mapping[str, int]] | None = None,
    ) -> None:
        super().__init__()
        family = VARIANTS[variant]
        width = family.width if width is None else width
        depth = family.depth if depth is None else depth
        stages = stages_of(blocks, variant)

        last_stage = last_stages(stages)
        missing = [stride for stride in strides if stride not in last_stage]
        if missing:
            reached = ", ".join(map(str, last_stage))
            raise ValueError(f"no stage ends at stride {missing[0]}; strides reached: {reached}")
        taken = [last_stage[stride] for stride in strides]

        channels = stem if family.lite else scale_channels(stem, width)
        self.activation = family.activation
        self.stem = ConvBn(
            in_channels,
            channels,
            3,
            stride=2,
            activation=self.activation,
            pad_as_tensorflow=padding == "same",
        )
        self.stages = nn.ModuleList()
        self.strides = tuple(strides)
        self.channels: list[int] = []
        for index, block in enumerate(stages[: max(taken) + 1]):
            outputs = scale_channels(block.channels, width)
            units = []
            for repeat in range(family.repeats(stages, index, depth)):
                stride = block.stride if repeat == 0 else 1
                units.append(
                    MBConv(
                        channels,
                        outputs,
                        block.kernel,
                        block.expand,
                        stride,
                        self.activation,
                        padding == "same",
                    )
                )
                channels = outputs
            self.stages.append(nn.Sequential(*units))
            if index in taken:
                self.channels.append(channels)
        self._taken = frozenset(taken)
        initialize(self)

    def forward(self, images: Tensor) -> list[Tensor]:
        x = self.stem(images)
        maps = []
        for index, stage in enumerate(self.stages):
            x = stage(x)
            if index in self._taken:
                maps.append(x)
        return maps
