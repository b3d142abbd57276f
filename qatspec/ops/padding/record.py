"""Spellings and functions of the op."""

from __future__ import annotations

from qatspec.ops.family import handler
from qatspec.types import OpTrait

HANDLERS = (
    handler(
        "padding",
        "pad",
        "padding",
        {
            "pad": "nn:ZeroPad1d nn:ZeroPad2d nn:ZeroPad3d nn:ConstantPad1d nn:ConstantPad2d "
            "nn:ConstantPad3d nn:ReflectionPad1d nn:ReflectionPad2d nn:ReflectionPad3d "
            "nn:ReplicationPad1d nn:ReplicationPad2d nn:ReplicationPad3d nn:CircularPad1d "
            "nn:CircularPad2d nn:CircularPad3d f:pad"
        },
        OpTrait.MOVES_WHERE_SHARED,
    ),
)
