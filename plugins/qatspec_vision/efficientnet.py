"""EfficientNet (Tan & Le, ICML 2019) with ReLU and without squeeze-and-excitation.

Both changes are for integer hardware: ReLU fuses into the convolution before it, while swish and
the attention's sigmoid * x need lookup tables and break the fusion.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from qatspec_vision.blocks import VARIANTS, last_stages, scale_channels, stages_of


class ConvBn(nn.Sequential):
    """Conv2d without bias, BatchNorm2d and, where asked for, ReLU. Keeps H, W at stride 1."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int = 1,
        stride: int = 1,
        groups: int = 1,
        relu: bool = True,
    ) -> None:
        conv = nn.Conv2d(
            inputs, outputs, kernel, stride, padding=kernel // 2, groups=groups, bias=False
        )
        super().__init__(conv, nn.BatchNorm2d(outputs), *([nn.ReLU()] if relu else []))


class MBConv(nn.Module):
    """Inverted residual: expand 1x1, depthwise kxk, project 1x1 (linear), added to the input where
    stride and channels allow. (N, inputs, H, W) -> (N, outputs, H / stride, W / stride)."""

    def __init__(self, inputs: int, outputs: int, kernel: int, expand: int, stride: int) -> None:
        super().__init__()
        hidden = inputs * expand
        self.residual = stride == 1 and inputs == outputs
        self.expand = ConvBn(inputs, hidden) if expand != 1 else None
        self.depthwise = ConvBn(hidden, hidden, kernel, stride, groups=hidden)
        self.project = ConvBn(hidden, outputs, relu=False)

    def forward(self, x: Tensor) -> Tensor:
        hidden = x if self.expand is None else self.expand(x)
        out: Tensor = self.project(self.depthwise(hidden))
        return out + x if self.residual else out


class EfficientNet(nn.Module):
    """The feature extractor: images to one map a stride.

    variant       "b0" ... "b3": the paper's width and depth.
    width, depth  override the variant's coefficients.
    blocks        override the stages: mappings with the fields of qatspec_vision.blocks.Block.
    stem          channels of the first convolution (stride 2) before scaling.
    strides       of the maps to return, ascending, each a power of two that the stages reach.
                  Stages beyond the last one are left out.

    forward: (N, 3, H, W) -> list of (N, C_i, H / strides[i], W / strides[i]).
    `channels` holds the C_i.
    """

    def __init__(
        self,
        variant: str = "b0",
        width: float | None = None,
        depth: float | None = None,
        blocks: Sequence[Mapping[str, int]] | None = None,
        stem: int = 32,
        strides: Sequence[int] = (8, 16, 32),
        in_channels: int = 3,
    ) -> None:
        super().__init__()
        family = VARIANTS[variant]
        width = family[0] if width is None else width
        depth = family[1] if depth is None else depth
        stages = stages_of(blocks)

        last_stage = last_stages(stages)
        missing = [stride for stride in strides if stride not in last_stage]
        if missing:
            reached = ", ".join(map(str, last_stage))
            raise ValueError(f"no stage ends at stride {missing[0]}; strides reached: {reached}")
        taken = [last_stage[stride] for stride in strides]

        channels = scale_channels(stem, width)
        self.stem = ConvBn(in_channels, channels, 3, stride=2)
        self.stages = nn.ModuleList()
        self.strides = tuple(strides)
        self.channels: list[int] = []
        for index, block in enumerate(stages[: max(taken) + 1]):
            outputs = scale_channels(block.channels, width)
            units = []
            for repeat in range(math.ceil(block.repeats * depth)):
                stride = block.stride if repeat == 0 else 1
                units.append(MBConv(channels, outputs, block.kernel, block.expand, stride))
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


class EfficientNetClassifier(nn.Module):
    """EfficientNet with its 1x1 head convolution, global average pooling and a linear classifier.

    forward: (N, 3, H, W) -> logits (N, num_classes).
    """

    def __init__(
        self, num_classes: int, backbone: EfficientNet, features: int = 1280, dropout: float = 0.2
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = nn.Sequential(
            ConvBn(backbone.channels[-1], features),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Dropout(dropout),
            nn.Linear(features, num_classes),
        )
        initialize(self.head)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.backbone(images)[-1])
        return logits

    def loss(self, outputs: Tensor, targets: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """Cross-entropy; each target holds `label`, an int64 scalar."""
        labels = torch.stack([target["label"] for target in targets])
        return {"cls": F.cross_entropy(outputs, labels)}

    def predict(self, outputs: Tensor) -> list[dict[str, Tensor]]:
        """`scores` (num_classes,) that sum to one, and `label`, the best class."""
        return [{"scores": s, "label": s.argmax()} for s in outputs.softmax(1)]


def build(params: Mapping[str, Any]) -> EfficientNetClassifier:
    """Build the registered model `efficientnet` from its params."""
    backbone = {key: value for key, value in params.get("backbone", {}).items() if key != "type"}
    last_stride = EfficientNet(**backbone, strides=(32,))
    rest = {key: value for key, value in params.items() if key != "backbone"}
    return EfficientNetClassifier(backbone=last_stride, **rest)


def initialize(module: nn.Module) -> None:
    """He initialisation of convolutions by fan-out, small normal linear layers, zero biases."""
    for child in module.modules():
        if isinstance(child, nn.Conv2d):
            fan_out = child.out_channels * math.prod(child.kernel_size) // child.groups
            nn.init.normal_(child.weight, std=math.sqrt(2.0 / fan_out))
        elif isinstance(child, nn.Linear):
            nn.init.normal_(child.weight, std=0.01)
        if isinstance(child, nn.Conv2d | nn.Linear) and child.bias is not None:
            nn.init.zeros_(child.bias)
