"""The state of lowering, which a handler's `lower` is given, and tools of several families."""

from qatspec.lowering.batch_dim import BATCH_FIRST as BATCH_FIRST, BatchDim as BatchDim
from qatspec.lowering.lowering import Lowering as Lowering
from qatspec.lowering.moves import (
    concatenated as concatenated,
    cut as cut,
    expanded as expanded,
    permuted as permuted,
    reshaped as reshaped,
)
from qatspec.lowering.operands import (
    INTEGERS as INTEGERS,
    Constant as Constant,
    FailedOperand as FailedOperand,
    Grid as Grid,
    RealInput as RealInput,
    Unlowerable as Unlowerable,
)
from qatspec.lowering.padding import padded as padded, taken as taken
from qatspec.lowering.pending import (
    PendingSum as PendingSum,
    ScaledInts as ScaledInts,
    pending as pending,
)
from qatspec.lowering.planes import (
    as_channels as as_channels,
    as_columns as as_columns,
    joined as joined,
    planes as planes,
    transposed_taps as transposed_taps,
    window_taps as window_taps,
)
from qatspec.lowering.quotient import quotient as quotient
from qatspec.lowering.resampling import resampled as resampled
from qatspec.lowering.segments import table as table
from qatspec.lowering.tables import lookup as lookup
