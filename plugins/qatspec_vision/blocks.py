"""EfficientNet's tables and scaling rules, as data that the params' checks read without torch."""

from __future__ import annotations

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
#: variant -> (width, depth), the compound scaling coefficients of the paper's authors.
VARIANTS = {"b0": (1.0, 1.0), "b1": (1.0, 1.1), "b2": (1.1, 1.2), "b3": (1.2, 1.4)}


def stages_of(blocks: Sequence[Mapping[str, int]] | None) -> tuple[Block, ...]:
    """The stages that a spec's `blocks` means; None is the B family."""
    return B_BLOCKS if blocks is None else tuple(Block(**block) for block in blocks)


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
