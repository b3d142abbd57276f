"""Spellings, traits and functions of the ops."""

from __future__ import annotations

from qatspec.ops.family import handler
from qatspec.types import OpTrait

HANDLERS = (
    handler(
        "joins",
        "cat",
        "concatenation and stacking",
        {"cat": "torch.cat torch.concat torch.concatenate", "stack": "torch.stack"},
        OpTrait.MOVES,
        OpTrait.JOINS,
    ),
)
