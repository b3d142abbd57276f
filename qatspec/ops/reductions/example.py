"""Examples of the ops, and the same functions in float64."""

from __future__ import annotations

import numpy as np
import torch

from qatspec.ops.examples import function
from qatspec.types import Example


def examples() -> tuple[Example, ...]:
    return (
        function(
            "mean", lambda x: x.mean((2, 3), keepdim=True), lambda x: x.mean((2, 3), keepdims=True)
        ),
        function("sum", lambda x: x.sum(1), lambda x: x.sum(1)),
        function("max", lambda x: x.amax((1, 3)), lambda x: x.max((1, 3))),
        function("argmax", lambda x: x.relu().argmax(3), lambda x: np.argmax(np.maximum(x, 0), 3)),
        function(
            "vector_norm",
            lambda x: torch.linalg.vector_norm(x, dim=1),
            lambda x: np.sqrt((x**2).sum(1)),
        ),
    )
