"""Examples of the ops, and the same functions in float64."""

from __future__ import annotations

import numpy as np
import torch

from qatspec.ops.examples import function
from qatspec.types import Example


def examples() -> tuple[Example, ...]:
    """A tensor with itself transposed."""
    return (
        function(
            "cat",
            lambda x: torch.cat([x, x.transpose(2, 3)], 1),
            lambda x: np.concatenate([x, x.swapaxes(2, 3)], 1),
        ),
        function(
            "stack",
            lambda x: torch.stack([x, x.transpose(2, 3)], 2),
            lambda x: np.stack([x, x.swapaxes(2, 3)], 2),
        ),
    )
