"""Spellings, traits and functions of the ops."""

from __future__ import annotations

from qatspec.ops.family import handler
from qatspec.types import OpTrait

HANDLERS = (
    handler(
        "inert",
        "inert",
        "no arithmetic in evaluation",
        {
            "dropout": "nn:Dropout nn:Dropout1d nn:Dropout2d nn:Dropout3d "
            "f:dropout f:dropout1d f:dropout2d f:dropout3d",
            "identity": "nn:Identity t:clone t:detach",
            "contiguous": "t:contiguous",
        },
        OpTrait.MOVES,
        OpTrait.REARRANGES,
    ),
    handler(
        "inert",
        "guarded",
        "the operand of a function with a pole or an infinite slope",
        {"guarded": "qatspec.quant.guarded.GuardedOperand"},
        to_onnx="write_guarded",
    ),
)
