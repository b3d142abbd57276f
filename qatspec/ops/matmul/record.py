"""Spellings and functions of the op."""

from __future__ import annotations

from qatspec.ops.family import handler
from qatspec.types import OpTrait

HANDLERS = (
    handler(
        "matmul",
        "matmul",
        "product of two matrices",
        {"matmul": "torch.matmul torch.bmm torch.mm operator.matmul t:matmul t:bmm t:mm"},
        OpTrait.PRODUCTS,
    ),
)
