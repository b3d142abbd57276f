"""Examples of the ops, and some of their functions in float64."""

from __future__ import annotations

import numpy as np
from torch import nn

from qatspec.ops.examples import Reals, module
from qatspec.types import Example


def _windows(x: Reals) -> Reals:
    """(N, 4, 8, 8) as windows of 2 along dims 3 and 5."""
    return x.reshape(*x.shape[:2], 4, 2, 4, 2)


def _max(x: Reals) -> Reals:
    return np.asarray(_windows(x).max((3, 5)))


def _mean(x: Reals) -> Reals:
    return np.asarray(_windows(x).mean((3, 5)))


def examples() -> tuple[Example, ...]:
    line, cube = (2, 4, 11), (2, 4, 5, 6, 7)
    return (
        module("max_pool2d", lambda: nn.MaxPool2d(2), _max),
        module("max_pool1d", lambda: nn.MaxPool1d(3, 2, 1), shape=line),
        module("max_pool3d", lambda: nn.MaxPool3d(2), shape=cube),
        module("adaptive_max_pool2d", lambda: nn.AdaptiveMaxPool2d(4), _max),
        module("adaptive_max_pool1d", lambda: nn.AdaptiveMaxPool1d(3), shape=line),
        module("adaptive_max_pool3d", lambda: nn.AdaptiveMaxPool3d((1, 4, 2)), shape=cube),
        module("avg_pool2d", lambda: nn.AvgPool2d(2), _mean),
        module("avg_pool1d", lambda: nn.AvgPool1d(3, 2, 1), shape=line),
        module("avg_pool3d", lambda: nn.AvgPool3d(2), shape=cube),
        module("adaptive_avg_pool2d", lambda: nn.AdaptiveAvgPool2d(4), _mean),
        module("adaptive_avg_pool1d", lambda: nn.AdaptiveAvgPool1d(3), shape=line),
        module("adaptive_avg_pool3d", lambda: nn.AdaptiveAvgPool3d((1, 3, 2)), shape=cube),
    )
