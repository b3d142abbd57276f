"""Spellings, traits and functions of the ops."""

from __future__ import annotations

from qatspec.ops.family import handler
from qatspec.types import OpTrait

HANDLERS = (
    handler(
        "shuffles",
        "shuffle",
        "pixel and channel shuffles",
        {
            "pixel_shuffle": "nn:PixelShuffle f:pixel_shuffle torch.pixel_shuffle",
            "pixel_unshuffle": "nn:PixelUnshuffle f:pixel_unshuffle torch.pixel_unshuffle",
            "channel_shuffle": "nn:ChannelShuffle f:channel_shuffle torch.channel_shuffle",
        },
        OpTrait.MOVES,
    ),
)
