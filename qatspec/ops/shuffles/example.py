"""Examples of the ops, and the same functions in float64."""

from __future__ import annotations

import numpy as np
from torch import nn

from qatspec.ops.examples import Reals, module
from qatspec.types import Example


def _depth_to_space(x: Reals) -> Reals:
    """(N, 4, 8, 8) -> (N, 1, 16, 16)."""
    parts = x.reshape(-1, 1, 2, 2, 8, 8).transpose(0, 1, 4, 2, 5, 3)
    return np.asarray(parts.reshape(-1, 1, 16, 16))


def _space_to_depth(x: Reals) -> Reals:
    """(N, 4, 8, 8) -> (N, 16, 4, 4)."""
    parts = x.reshape(-1, 4, 4, 2, 4, 2).transpose(0, 1, 3, 5, 2, 4)
    return np.asarray(parts.reshape(-1, 16, 4, 4))


def examples() -> tuple[Example, ...]:
    return (
        module("pixel_shuffle", lambda: nn.PixelShuffle(2), _depth_to_space),
        module("pixel_unshuffle", lambda: nn.PixelUnshuffle(2), _space_to_depth),
        module("channel_shuffle", lambda: nn.ChannelShuffle(2), lambda x: x[:, [0, 2, 1, 3]]),
    )
