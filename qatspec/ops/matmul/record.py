"""What models call the op, and where its parts are."""

from __future__ import annotations

from qatspec.ops.family import handler

HANDLERS = (
    handler(
        "matmul",
        "matmul",
        "product of two matrices",
        {"matmul": "torch.matmul torch.bmm operator.matmul t:matmul t:bmm"},
    ),
)
