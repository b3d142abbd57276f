"""The state of lowering, which a handler's `lower` is given, and tools of several families."""

from qatspec.lowering.lowering import Lowering
from qatspec.lowering.moves import concatenated, cut, expanded, permuted, reshaped
from qatspec.lowering.operands import (
    INTEGERS,
    Constant,
    FailedOperand,
    Grid,
    RealInput,
    Unlowerable,
)
from qatspec.lowering.padding import padded, taken
from qatspec.lowering.pending import PendingSum, ScaledInts, pending
from qatspec.lowering.planes import (
    as_channels,
    as_columns,
    joined,
    planes,
    transposed_taps,
    window_taps,
)
from qatspec.lowering.quotient import quotient
from qatspec.lowering.tables import lookup

__all__ = [
    "INTEGERS",
    "Constant",
    "FailedOperand",
    "Grid",
    "Lowering",
    "PendingSum",
    "RealInput",
    "ScaledInts",
    "Unlowerable",
    "as_channels",
    "as_columns",
    "concatenated",
    "cut",
    "expanded",
    "joined",
    "lookup",
    "padded",
    "pending",
    "permuted",
    "planes",
    "quotient",
    "reshaped",
    "taken",
    "transposed_taps",
    "window_taps",
]
