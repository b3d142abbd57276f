"""Spellings, traits and functions of the op."""

from __future__ import annotations

from qatspec.ops.family import handler
from qatspec.types import OpTrait

HANDLERS = (
    handler(
        "running",
        "running_sum",
        "running sums along a dim",
        {"cumsum": "torch.cumsum t:cumsum"},
        OpTrait.AVERAGES,
    ),
)
