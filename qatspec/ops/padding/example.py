"""An example of the op, and the same function in float64."""

from __future__ import annotations

import numpy as np
from torch import nn

from qatspec.ops.examples import module
from qatspec.types import Example


def examples() -> tuple[Example, ...]:
    """Edges mirrored: (N, 4, 8, 8) -> (N, 4, 11, 11)."""
    around = ((0, 0), (0, 0), (3, 0), (1, 2))
    return (
        module(
            "pad",
            lambda: nn.ReflectionPad2d((1, 2, 3, 0)),
            lambda x: np.pad(x, around, mode="reflect"),
        ),
    )
