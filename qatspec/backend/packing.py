"""The memory layout of integers: features in blocks of channels with padded rows (8W4C), weights in
blocks of output and input channels. Padding holds zeros."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from qatspec.backend.layers import Layer
from qatspec.backend.region import Box, const_range, view
from qatspec.backend.target import Target, align
from qatspec.ir import STORAGE, Value
from qatspec.program import Program

#: Alignment in bytes of every buffer and constant.
LINE = 16


def features_shape(value: Value, box: Box, target: Target) -> tuple[int, int, int, int]:
    """(channel blocks, rows, padded columns, channels of a block). A single column is not padded:
    vectors stay dense."""
    columns = view(value.shape)[2]
    width = align(columns, target.hardware.align_width) if columns > 1 else 1
    block = target.hardware.align_channels_in
    return align(box.channels, block) // block, box.rows, width, block


def features_bytes(value: Value, box: Box, target: Target) -> int:
    """Bytes of `box` of a value in memory, a multiple of LINE."""
    size = prod(features_shape(value, box, target)) * np.dtype(STORAGE[value.dtype]).itemsize
    return align(size, LINE)


def features_view(
    memory: np.ndarray, address: int, value: Value, buffer: Box, target: Target
) -> np.ndarray:
    """The buffer at `address` of a memory of bytes, as (blocks, rows, columns, block); writing to
    it writes the memory. Raises ValueError where it reaches past the memory's end."""
    shape = features_shape(value, buffer, target)
    dtype = np.dtype(STORAGE[value.dtype])
    size = prod(shape) * dtype.itemsize
    if address + size > memory.size:
        raise ValueError(f"address {address} + {size} is past {memory.size}")
    return memory[address : address + size].view(dtype).reshape(shape)


def box_index(value: Value, box: Box, buffer: Box, target: Target) -> tuple[Any, ...]:
    """Index of `box` in a `features_view` of `buffer`: returns (channels, rows, columns).

    The rows of a buffer are a ring: row r lies at r modulo its number of rows. A buffer that holds
    all rows of a value has each in its place. Raises ValueError where the box does not fit.
    """
    if not (buffer.c0 <= box.c0 and box.c1 <= buffer.c1 and box.rows <= buffer.rows):
        raise ValueError(f"{box} is not inside {buffer}")
    channels = np.arange(box.c0 - buffer.c0, box.c1 - buffer.c0)
    block = target.hardware.align_channels_in
    first = box.h0 % buffer.rows
    rows: Any = slice(first, first + box.rows)
    if first + box.rows > buffer.rows:
        rows = np.arange(box.h0, box.h1) % buffer.rows
        return (
            (channels // block)[:, None],
            rows[None],
            slice(0, view(value.shape)[2]),
            (channels % block)[:, None],
        )
    return channels // block, rows, slice(0, view(value.shape)[2]), channels % block


@dataclass(frozen=True, slots=True, kw_only=True)
class Packed:
    """A constant in the weights section: bytes offset..offset+size, integers stored as `dtype`
    (the narrowest that holds them all), in blocks of `block_out` entries of dim 0 and `block_in` of
    dim 1 (0: stored as it is). Dim 0, the output channels of a convolution, is what tiles split.
    turned: groups of a weight whose dim 0 is the input channel in the Program, which is stored with
    the output channel first (`shape` is that form); 0 for all others."""

    name: str
    offset: int
    size: int
    dtype: str
    shape: tuple[int, ...]
    block_out: int
    block_in: int
    turned: int = 0

    def span(self, start: int, stop: int) -> tuple[int, int]:
        """(offset, bytes) of the blocks that hold entries start..stop."""
        if not self.block_out:
            row = self.size // self.shape[0]
            return self.offset + start * row, (stop - start) * row
        blocks = align(self.shape[0], self.block_out) // self.block_out
        one = self.size // blocks
        first, last = start // self.block_out, -(-stop // self.block_out)
        return self.offset + first * one, (last - first) * one


def packed_layout(
    name: str, array: np.ndarray, offset: int, target: Target, turned: int = 0
) -> Packed:
    """The layout of a packed constant that begins at byte `offset`. turned: as of Packed."""
    if turned:
        array = _turn(array, turned)
    dtype = _narrowest(array)
    block_out, block_in, size = 0, 0, array.size
    if array.ndim in (2, 4):
        block_out = target.hardware.align_channels_out
        block_in = target.hardware.align_channels_in if array.shape[1] > 1 else 1
        size = align(array.shape[0], block_out) * align(array.shape[1], block_in)
        size *= prod(array.shape[2:])
    return Packed(
        name=name,
        offset=offset,
        size=size * np.dtype(dtype).itemsize,
        dtype=dtype,
        shape=array.shape,
        block_out=block_out,
        block_in=block_in,
        turned=turned,
    )


@dataclass(frozen=True, slots=True)
class Span:
    """Entries start..stop of a constant: its bytes offset..offset+size of the weights section,
    and at `address` of the on-chip buffer that holds the layer's constants side by side."""

    name: str
    start: int
    stop: int
    offset: int
    size: int
    address: int


def constant_spans(
    layer: Layer, box: Box, program: Program, packed: Mapping[str, Packed]
) -> tuple[list[Span], int]:
    """What the channels of `box` of a layer's output need of its constants, and the bytes of the
    buffer that holds it."""
    users = {name: op for op in reversed(layer.ops) for name in op.inputs}
    spans, at = [], 0
    for name in layer.consts:
        start, stop = const_range(users[name], name, box, program)
        offset, size = packed[name].span(start, stop)
        spans.append(Span(name, start, stop, offset, size, at))
        at += align(size, LINE)
    return spans, at


def _turn(weight: np.ndarray, groups: int) -> np.ndarray:
    """A weight (groups x A, B, ...) as (groups x B, A, ...)."""
    first, second, *rest = weight.shape
    grouped = weight.reshape(groups, first // groups, second, *rest).swapaxes(1, 2)
    turned: np.ndarray = grouped.reshape(groups * second, first // groups, *rest)
    return turned


def _narrowest(array: np.ndarray) -> str:
    """The smallest of int8, int16, int32, int64 that holds every element."""
    low, high = (int(array.min()), int(array.max())) if array.size else (0, 0)
    for name in ("int8", "int16", "int32"):
        info = np.iinfo(name)
        if info.min <= low and high <= info.max:
            return name
    return "int64"


def pack_constant(array: np.ndarray, packed: Packed) -> bytes:
    """The bytes of a constant, laid out as `packed` says."""
    stored = np.dtype(packed.dtype).newbyteorder("<")
    if packed.turned:
        array = _turn(array, packed.turned)
    if not packed.block_out:
        return array.astype(stored).tobytes()
    out, other = align(array.shape[0], packed.block_out), align(array.shape[1], packed.block_in)
    padded = np.zeros((out, other, prod(array.shape[2:])), stored)
    padded[: array.shape[0], : array.shape[1]] = array.reshape(*array.shape[:2], -1)
    blocks = padded.reshape(
        out // packed.block_out, packed.block_out, other // packed.block_in, packed.block_in, -1
    )
    return bytes(blocks.transpose(0, 2, 4, 1, 3).tobytes())


def unpack_constant(data: bytes, packed: Packed, start: int, stop: int) -> np.ndarray:
    """Entries start..stop of dim 0, from the bytes of `packed.span(start, stop)`; a turned weight
    in the form of the Program, cut to these output channels."""
    stored = np.frombuffer(data, np.dtype(packed.dtype).newbyteorder("<"))
    flat: np.ndarray = stored.astype(packed.dtype)
    if not packed.block_out:
        return flat.reshape(stop - start, *packed.shape[1:])
    depth = align(packed.shape[1], packed.block_in)
    taps = prod(packed.shape[2:])
    blocks = flat.reshape(-1, depth // packed.block_in, taps, packed.block_out, packed.block_in)
    matrix = blocks.transpose(0, 3, 1, 4, 2).reshape(-1, depth, taps)
    skip = start % packed.block_out
    entries: np.ndarray = matrix[skip : skip + stop - start, : packed.shape[1]]
    entries = entries.reshape(stop - start, *packed.shape[1:])
    if not packed.turned:
        return entries
    per_group = packed.shape[0] // packed.turned
    return _turn(entries, max(1, (stop - start) // per_group))
