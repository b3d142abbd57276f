"""Spellings and functions of the op."""

from __future__ import annotations

from qatspec.ops.family import handler
from qatspec.types import OpTrait

HANDLERS = (
    handler(
        "sizes",
        "sizes",
        "sizes of tensors",
        {"shape": "builtins.getattr t:size t:dim t:numel torch.numel"},
        OpTrait.SIZES,
        lower=None,
        to_onnx=None,
        examples=None,
    ),
)
