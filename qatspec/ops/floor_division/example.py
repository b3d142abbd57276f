"""An example of the op, and the same function in float64."""

from __future__ import annotations

import numpy as np

from qatspec.ops.examples import function
from qatspec.types import Example


def examples() -> tuple[Example, ...]:
    """A third of the index of the largest along the last dim."""
    return (
        function(
            "floor_divide",
            lambda x: x.relu().argmax(3) // 3,
            lambda x: np.argmax(np.maximum(x, 0), 3) // 3.0,
        ),
    )
