"""Spellings and functions of the op."""

from __future__ import annotations

from qatspec.ops.family import handler
from qatspec.types import OpTrait

HANDLERS = (
    handler(
        "matmul",
        "matmul",
        "product of two matrices",
        {"matmul": "torch.matmul torch.bmm operator.matmul t:matmul t:bmm"},
        OpTrait.PRODUCTS,
    ),
)
