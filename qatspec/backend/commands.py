"""The command stream: what the cores and the DMA queues do, as bytes, in an order that is right
for one unit after the other.

Five commands. Addresses count bytes; those of `load`, `store` and operands are on-chip, where a
value lies in the layout of `qatspec.backend.packing`. Values that are parts of another one lie in
its memory (`qatspec.backend.views`): `value` and the boxes of loads, stores and buffers are those
of the value that has the memory.

weight  the layer's constants for output channels box.c0..c1 -> address
load    box of a value in DDR -> address
execute box of the layer's output from the operands; address: of the result
store   address -> box of a value in DDR
host    the CPU computes the layer from values in DDR to a value in DDR; no address
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from qatspec.backend.region import Box

OpCode = Literal["weight", "load", "execute", "store", "host"]
_CODES: tuple[OpCode, ...] = ("weight", "load", "execute", "store", "host")
#: 32-bit words of a command before its operands, and of an operand.
_HEAD, _OPERAND = 11, 5


@dataclass(frozen=True, slots=True)
class Operand:
    """A buffer on chip for the channels of `box`; its rows are a ring: row r lies at r modulo the
    rows of `box`."""

    address: int
    box: Box


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One command of `layer`. value: index of the value in whose memory something is moved or made;
    buffer: the channels and rows that the memory at `address` has space for, as in Operand;
    constants: address, for execute."""

    code: OpCode
    layer: int
    value: int
    address: int
    box: Box
    buffer: Box
    core: int = 0
    constants: int = 0
    operands: tuple[Operand, ...] = ()


class BadStream(ValueError):
    """The bytes are no command stream; the message says why."""


def encode(commands: Sequence[Command]) -> bytes:
    """Little-endian 32-bit words: code, core, layer, value, address, constants, box (c0, c1, h0,
    h1), number of operands; the buffer as a first operand; the operands (address, box)."""
    words: list[int] = []
    for c in commands:
        words += [_CODES.index(c.code), c.core, c.layer, c.value, c.address, c.constants]
        words += [*_box_words(c.box), len(c.operands)]
        for operand in (Operand(c.address, c.buffer), *c.operands):
            words += [operand.address, *_box_words(operand.box)]
    return np.asarray(words, "<u4").tobytes()


def decode(data: bytes) -> tuple[Command, ...]:
    """The commands of `data`. Raises BadStream, whatever the bytes."""
    if len(data) % 4:
        raise BadStream("the stream is cut short")
    words: list[int] = np.frombuffer(data, "<u4").tolist()
    commands: list[Command] = []
    at = 0
    while at < len(words):
        if at + _HEAD + _OPERAND > len(words):
            raise BadStream(f"command {len(commands)} is cut short")
        code, core, layer, value, address, constants = words[at : at + 6]
        count = words[at + 10]
        end = at + _HEAD + _OPERAND * (1 + count)
        if code >= len(_CODES) or end > len(words):
            raise BadStream(f"command {len(commands)} is not valid")
        boxes = range(at + _HEAD, end, _OPERAND)
        operands = [Operand(words[i], _box(words[i + 1 : i + 5])) for i in boxes]
        commands.append(
            Command(
                code=_CODES[code],
                core=core,
                layer=layer,
                value=value,
                address=address,
                constants=constants,
                box=_box(words[at + 6 : at + 10]),
                buffer=operands[0].box,
                operands=tuple(operands[1:]),
            )
        )
        at = end
    return tuple(commands)


def _box_words(box: Box) -> list[int]:
    return [box.c0, box.c1, box.h0, box.h1]


def _box(words: Sequence[int]) -> Box:
    c0, c1, h0, h1 = words
    if not (c0 < c1 and h0 < h1):
        raise BadStream(f"an empty region: channels {c0}..{c1}, rows {h0}..{h1}")
    return Box(c0, c1, h0, h1)
