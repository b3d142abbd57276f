"""Spellings and functions of the op."""

from __future__ import annotations

from qatspec.ops.family import handler
from qatspec.types import OpTrait

HANDLERS = (
    handler(
        "resize",
        "resize",
        "resizing in any mode",
        {"interpolate": "nn:Upsample nn:UpsamplingNearest2d nn:UpsamplingBilinear2d f:interpolate"},
        OpTrait.IMAGES,
        OpTrait.AVERAGES,
        OpTrait.MOVES_WHERE_SHARED,
    ),
)
