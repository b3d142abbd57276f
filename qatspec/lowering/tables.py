"""Functions of one number as tables over every input integer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from qatspec.ir import RANGE
from qatspec.lowering.lowering import Lowering
from qatspec.lowering.operands import Grid
from qatspec.lowering.pending import ScaledInts


def lookup(
    lowering: Lowering,
    operand: Any,
    function: Callable[[np.ndarray], np.ndarray],
    grid: Grid | None = None,
) -> ScaledInts:
    """function(operand) as a table, correctly rounded (half to even) from float64; what is no
    number saturates (1 / 0), or is zero (the root of a negative).

    grid: of its results; None: that of the fake-quant behind this node. Fails where there is none.
    """
    x = lowering.small_integers(operand)
    grid = grid or lowering.required_grid("a table")
    low, high = RANGE[lowering.dtype(x)]
    with np.errstate(all="ignore"):
        real = function(np.arange(low, high + 1, dtype=np.float64) * x.step)
        real = np.nan_to_num(real / grid.scale, nan=0.0)
    levels = np.clip(np.rint(real), *RANGE[grid.dtype])
    table = lowering.const("table", grid.dtype, levels)
    return lowering.emit("lut", (x.value, table), grid.scale, dtype=grid.dtype)
