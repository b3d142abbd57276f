"""Depthwise convolutions with as many channels as onnxruntime's fast kernel wants.

MLAS computes depthwise convolutions of bytes by a kernel of its own where their channels are a
multiple of 16; others take two to five times as long (3x3, 5x5 and 7x7, by measurement). Where a
convolution makes the operand and another one alone reads the result, as in an inverted residual,
all three are written with channels of weight 0 up to the next multiple. No integer changes.
"""

from __future__ import annotations

from collections.abc import Mapping

from qatspec.export.fast.values import Values
from qatspec.ir import Op

#: What channels are a multiple of. Fewer than that are not widened: most would be 0.
STEP = 16


def widths(emit: Values, convs: Mapping[str, Op], readers: Mapping[str, int]) -> dict[str, int]:
    """Results that are written with more channels, to how many.

    convs: results of convolutions that are rounded by their kernel. readers: how often values are
    read, outputs counted.
    """
    reader = {op.inputs[0]: output for output, op in convs.items()}
    wider: dict[str, int] = {}
    for result, op in convs.items():
        before = convs.get(op.inputs[0])
        after = convs.get(reader.get(result, ""))
        count, channels, *_ = emit.array(op, 1).shape
        is_depthwise = channels == 1 and op.attrs["groups"] == count > STEP
        if not is_depthwise or count % STEP == 0:
            continue
        if before is None or after is None or readers[op.inputs[0]] > 1 or readers[result] > 1:
            continue
        if before.attrs["groups"] == 1 and after.attrs["groups"] == 1:
            wider |= dict.fromkeys((op.inputs[0], result), count + -count % STEP)
    return wider
