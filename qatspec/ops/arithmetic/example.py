"""Examples of the ops, and the same functions in float64."""

from __future__ import annotations

import numpy as np
import torch

from qatspec.ops.examples import function
from qatspec.types import Example


def examples() -> tuple[Example, ...]:
    """A tensor with itself transposed, so that both operands differ."""
    return (
        function("add", lambda x: x + x.transpose(2, 3), lambda x: x + x.swapaxes(2, 3)),
        function("sub", lambda x: x - x.transpose(2, 3), lambda x: x - x.swapaxes(2, 3)),
        function("mul", lambda x: x * x.transpose(2, 3), lambda x: x * x.swapaxes(2, 3)),
        function("div", lambda x: x / -3, lambda x: x / -3),
        function("neg", torch.neg, np.negative),
        function(
            "maximum",
            lambda x: torch.maximum(x, x.transpose(2, 3)),
            lambda x: np.maximum(x, x.swapaxes(2, 3)),
        ),
        function(
            "minimum",
            lambda x: torch.minimum(x, x.transpose(2, 3)),
            lambda x: np.minimum(x, x.swapaxes(2, 3)),
        ),
    )
