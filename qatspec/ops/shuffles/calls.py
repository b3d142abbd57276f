"""The arguments of the ops: dims that are split, swapped and merged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import fx

from qatspec.graph.context import GraphContext


@dataclass(frozen=True, slots=True)
class _PixelShuffle:
    x: Any
    upscale_factor: int


@dataclass(frozen=True, slots=True)
class _PixelUnshuffle:
    x: Any
    downscale_factor: int


@dataclass(frozen=True, slots=True)
class _ChannelShuffle:
    x: Any
    groups: int


@dataclass(frozen=True, slots=True)
class Shuffle:
    """factor: of the module or call. split(c, h, w): the dims (C, H, W) split by it. perm: the
    order of these dims behind the batch, before they merge into the result's."""

    factor: int
    split: Callable[[int, int, int], tuple[int, ...]]
    perm: tuple[int, ...]


def shuffle_of(node: fx.Node, context: GraphContext) -> Shuffle:
    op = context.op(node)
    if op == "pixel_shuffle":
        f = int(context.call(node, _PixelShuffle).upscale_factor)
        return Shuffle(f, lambda c, h, w: (c // f**2, f, f, h, w), (0, 1, 4, 2, 5, 3))
    if op == "pixel_unshuffle":
        f = int(context.call(node, _PixelUnshuffle).downscale_factor)
        return Shuffle(f, lambda c, h, w: (c, h // f, f, w // f, f), (0, 1, 3, 5, 2, 4))
    f = int(context.call(node, _ChannelShuffle).groups)
    return Shuffle(f, lambda c, h, w: (f, c // f, h, w), (0, 2, 1, 3, 4))
