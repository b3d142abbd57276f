"""Spellings and functions of the op."""

from __future__ import annotations

from qatspec.ops.family import handler

HANDLERS = (
    handler(
        "floor_division",
        "floor_division",
        "floor division of integers",
        {"floor_divide": "torch.floor_divide operator.floordiv t:floor_divide"},
    ),
)
