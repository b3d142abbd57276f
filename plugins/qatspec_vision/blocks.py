"""EfficientNet's tables and scaling rules, as data that the params' checks read without torch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple


class Block(NamedTuple):
    """One stage: `repeats` MBConv blocks, the first of which has the stride."""

    kernel: int
    repeats: int
    channels: int
    expand: int
    stride: int


#: The B family's stages before scaling (Tan & Le, ICML 2019, table 1).
B_BLOCKS = (
    Block(3, 1, 16, 1, 1),
    Block(3, 2, 24, 6, 2),
    Block(5, 2, 40, 6, 2),
    Block(3, 3, 80, 6, 2),
    Block(5, 3, 112, 6, 1),
    Block(5, 4, 192, 6, 2),
    Block(3, 1, 320, 6, 1),
)
#: The backbones of DeepLabV3+ for segmentation: narrower late stages (expansion 4), and from m0 to
#: m2 wider and deeper early ones, where the pictures' detail is.
M0_BLOCKS = (
    Block(3, 1, 16, 1, 1),
    Block(3, 2, 24, 6, 2),
    Block(5, 4, 40, 6, 2),
    Block(3, 3, 80, 6, 2),
    Block(5, 3, 112, 4, 1),
    Block(5, 4, 192, 4, 2),
    Block(3, 1, 320, 4, 1),
)
M1_BLOCKS = (
    Block(3, 1, 32, 1, 1),
    Block(3, 2, 48, 6, 2),
    Block(5, 8, 64, 6, 2),
    Block(3, 3, 80, 6, 2),
    *M0_BLOCKS[4:],
)
M2_BLOCKS = (
    Block(3, 1, 32, 1, 1),
    Block(3, 6, 48, 6, 2),
    Block(5, 12, 64, 6, 2),
    Block(3, 3, 80, 6, 2),
    *M0_BLOCKS[4:],
)


class Variant(NamedTuple):
    """A member of the family.

    width, depth  multiply channels and repeats.
    lite          EfficientNet-Lite (github.com/tensorflow/tpu, efficientnet/lite): the stem, the
                  head and the repeats of the first and the last stage are not scaled, ReLU6, and
                  batch norms as TensorFlow has them.
    """

    width: float = 1.0
    depth: float = 1.0
    blocks: tuple[Block, ...] = B_BLOCKS
    lite: bool = False

    @property
    def activation(self) -> str:
        """The activation behind each convolution except the projecting ones."""
        return "relu6" if self.lite else "relu"

    def repeats(self, stages: Sequence[Block], index: int, depth: float) -> int:
        """Number of units in stage `index`, at `depth`."""
        if self.lite and index in (0, len(stages) - 1):
            return stages[index].repeats
        return math.ceil(stages[index].repeats * depth)


#: name -> member; width and depth are those of the papers' authors.
VARIANTS: Mapping[str, Variant] = {
    "b0": Variant(),
    "b1": Variant(1.0, 1.1),
    "b2": Variant(1.1, 1.2),
    "b3": Variant(1.2, 1.4),
    "b0tiny": Variant(0.5, 0.5),
    "b0small": Variant(0.5, 1.0),
    "m0": Variant(blocks=M0_BLOCKS),
    "m1": Variant(blocks=M1_BLOCKS),
    "m2": Variant(blocks=M2_BLOCKS),
    "lite0": Variant(lite=True),
    "lite1": Variant(1.0, 1.1, lite=True),
    "lite2": Variant(1.1, 1.2, lite=True),
    "lite3": Variant(1.2, 1.4, lite=True),
    "lite4": Variant(1.4, 1.8, lite=True),
}


def stages_of(blocks: Sequence[Mapping[str, int]] | None, variant: str) -> tuple[Block, ...]:
    """The stages that a spec's `blocks` means; None: the variant's own."""
    if blocks is None:
        return VARIANTS[variant].blocks
    return tuple(Block(**block) for block in blocks)


def last_stages(stages: Sequence[Block]) -> dict[int, int]:
    """stride -> index of the last stage at that stride, in ascending order of strides.

    The stem has stride 2."""
    last, stride = {}, 2
    for index, block in enumerate(stages):
        stride *= block.stride
        last[stride] = index
    return last


def scale_channels(channels: int, width: float) -> int:
    """`channels * width` rounded to a multiple of 8, never by more than 10 % downwards."""
    scaled = channels * width
    rounded = max(8, int(scaled + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * scaled else rounded + 8
