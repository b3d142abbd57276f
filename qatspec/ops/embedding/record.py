"""Spellings and functions of the op."""

from __future__ import annotations

from qatspec.ops.family import handler

HANDLERS = (
    handler(
        "embedding",
        "embedding",
        "rows of a table, by indices",
        {"embedding": "nn:Embedding f:embedding torch.embedding"},
        lower=None,
    ),
)
