"""What a handler lowers an op with: the state of lowering, and tools that several families use."""

from qatspec.lowering.lowering import Lowering
from qatspec.lowering.moves import expanded, permuted, reshaped
from qatspec.lowering.operands import (
    INTEGERS,
    Constant,
    Grid,
    RealInput,
    Skipped,
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
    "Grid",
    "Lowering",
    "PendingSum",
    "RealInput",
    "ScaledInts",
    "Skipped",
    "Unlowerable",
    "as_channels",
    "as_columns",
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
