"""An example of the op, and the same function in float64."""

from __future__ import annotations

import numpy as np

from qatspec.ops.examples import function
from qatspec.types import Example


def examples() -> tuple[Example, ...]:
    """A matrix times itself transposed."""
    return (
        function(
            "matmul",
            lambda x: x @ x.transpose(2, 3),
            lambda x: np.einsum("ncik,ncjk->ncij", x, x),
        ),
    )
