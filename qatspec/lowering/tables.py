"""Functions of one number as tables over every input integer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from torch import fx

from qatspec.ir import RANGE
from qatspec.lowering.lowering import Lowering
from qatspec.lowering.operands import Grid
from qatspec.lowering.pending import ScaledInts
from qatspec.lowering.segments import table
from qatspec.quant.guarded import GuardedOperand


def lookup(
    lowering: Lowering,
    operand: Any,
    function: Callable[[np.ndarray], np.ndarray],
    grid: Grid | None = None,
) -> ScaledInts:
    """Lower a function of one number to a table over every integer of its operand.

    lowering  the state of lowering.
    operand   an argument of the node, on 4, 8 or 16 bits with one scale. The function of 0 is that
              of one step where a guard lifts zeros (qatspec.quant.guarded).
    function  float64 array -> float64 array of the same shape. A result that is no number becomes 0
              (the root of a negative); infinity saturates (1 / 0).
    grid      of the results; None: that of the fake-quant behind this node.

    Returns integers on `grid`, each correctly rounded from float64, half to even (rule: exact
    rounding); of an operand of 16 bits, within one of that (qatspec/adr/0125). Raises Unlowerable
    where the operand is not quantized so, or nothing quantizes the result (QS703).
    """
    x = lowering.small_integers(operand)
    grid = grid or lowering.required_grid("a table")
    low, high = RANGE[lowering.dtype(x)]
    # the float32 numbers that a fake-quant gives: where a function jumps, each is on its own side
    numbers = np.arange(low, high + 1, dtype=np.float32) * np.float32(x.step)
    guard = lowering.context.module(operand) if isinstance(operand, fx.Node) else None
    if isinstance(guard, GuardedOperand) and guard.lifts_zero:
        numbers[numbers == 0] = np.float32(x.step)
    with np.errstate(all="ignore"):
        real = function(numbers.astype(np.float64))
        real = np.nan_to_num(real / grid.scale, nan=0.0)
    operands, attrs = table(lowering, "table", grid.dtype, np.clip(real, *RANGE[grid.dtype]))
    return lowering.emit("lut", (x.value, *operands), grid.scale, dtype=grid.dtype, **attrs)
