"""Writes each op of a Program with real numbers."""

from __future__ import annotations

from collections.abc import Callable

from qatspec.export.real import parts, products, tables
from qatspec.export.real.values import Values
from qatspec.ir import Op

#: Writes one op and keeps its result.
Write = Callable[[Values, Op], None]

WRITERS: dict[str, Write] = {
    "requant": parts.requant,
    "clamp": parts.clamp,
    "mul": parts.mul,
    "affine": parts.affine,
    "divide": parts.divide,
    "max_pool": parts.max_pool,
    "sum_pool": parts.sum_pool,
    "reduce_sum": parts.reduce_sum,
    "reduce_max": parts.reduce_max,
    "argmax": parts.argmax,
    "resize_nearest": parts.resize_nearest,
    "resize_bilinear": parts.resize_bilinear,
    "concat": parts.concat,
    "reshape": parts.moved("reshape"),
    "transpose": parts.moved("transpose"),
    "slice": parts.moved("slice"),
    "pad": parts.pad,
    "standardize": parts.standardize,
    "conv": products.conv,
    "conv_transpose": products.conv_transpose,
    "linear": products.linear,
    "matmul": products.matmul,
    "lut": tables.lut,
    "exp_below_max": tables.exp_below_max,
}


class RealEmitter(Values):
    """Writes a Program op by op."""

    def emit(self, op: Op) -> None:
        """Write one op."""
        WRITERS[op.kind](self, op)
