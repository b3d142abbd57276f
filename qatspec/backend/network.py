"""What all planning passes know of a program: its layers without the views, who reads what each of
them writes, and how many bytes every piece takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from qatspec.backend.cost import host_us, layer_us
from qatspec.backend.layers import Layer
from qatspec.backend.packing import LINE, Packed, constant_spans
from qatspec.backend.region import Box, full_box, splits, view
from qatspec.backend.rows import divisible, rows_read
from qatspec.backend.target import Target, align
from qatspec.backend.views import Home, homes
from qatspec.ir import STORAGE
from qatspec.program import Program


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Channels c0..c1 of a root: what one layer writes, or an input of the Program."""

    root: str
    c0: int
    c1: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """What a layer reads of a root. sources: the parts it lies in. low, high: the rows that row r
    of the layer's output rests on are low[r]..high[r], both rising with r."""

    name: str
    root: str
    c0: int
    c1: int
    sources: tuple[int, ...]
    low: np.ndarray
    high: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Network:
    """The facts of one program on one target. Layers and parts go by their position: part k is
    what layer k writes, part -1 - i is input port i. frames: those of a run; bytes and times are
    those of all of them."""

    program: Program
    target: Target
    packed: Mapping[str, Packed]
    layers: tuple[Layer, ...]
    homes: Mapping[str, Home]
    parts: Mapping[int, Part]
    reads: tuple[tuple[Read, ...], ...]
    divisible: tuple[bool, ...]
    channel_step: tuple[int | None, ...]
    heights: Mapping[str, int]
    frames: int = 1
    cache: dict[tuple[int, int | None], int] = field(default_factory=dict)
    ranges: dict[tuple[int, tuple[int, int]], dict[str, tuple[int, int]]] = field(
        default_factory=dict
    )

    @classmethod
    def of(
        cls,
        program: Program,
        target: Target,
        packed: Mapping[str, Packed],
        layers: Sequence[Layer],
        frames: int = 1,
    ) -> Network:
        """The network of the layers that `group` found."""
        home_of, views = homes(layers, program, target)
        running = tuple(layer for layer in layers if layer.index not in views)
        parts = {}
        for i, port in enumerate(program.inputs):
            parts[-1 - i] = _part(port.name, home_of, program)
        for k, layer in enumerate(running):
            parts[k] = _part(layer.output, home_of, program)
        split = [splits(layer, program) for layer in running]
        return cls(
            program=program,
            target=target,
            packed=packed,
            layers=running,
            homes=home_of,
            parts=parts,
            reads=tuple(_reads(layer, home_of, parts, program) for layer in running),
            divisible=tuple(by_rows for by_rows, _ in split),
            channel_step=tuple(step for _, step in split),
            heights={p.root: view(program.values[p.root].shape)[1] for p in parts.values()},
            frames=frames,
        )

    @cached_property
    def readers(self) -> dict[int, list[int]]:
        """Part -> positions of the layers that read it."""
        readers: dict[int, list[int]] = {part: [] for part in self.parts}
        for k, reads in enumerate(self.reads):
            for source in dict.fromkeys(s for read in reads for s in read.sources):
                readers[source].append(k)
        return readers

    @cached_property
    def last_reader(self) -> dict[int, int]:
        """Part -> the position behind which nobody reads it; past the end for output ports."""
        ports = {port.name for port in self.program.outputs}
        return {
            part: len(self.layers) if self.parts[part].root in ports else max(readers, default=part)
            for part, readers in self.readers.items()
        }

    @cached_property
    def parts_of(self) -> dict[str, list[int]]:
        """Root -> its parts."""
        parts_of: dict[str, list[int]] = {}
        for number, part in self.parts.items():
            parts_of.setdefault(part.root, []).append(number)
        return parts_of

    @cached_property
    def _shapes(self) -> dict[str, tuple[int, int]]:
        """Root -> its channels, and the bytes of a row of one channel."""
        shapes = {}
        for root in self.heights:
            value = self.program.values[root]
            channels, _, columns = view(value.shape)
            width = align(columns, self.target.hardware.align_width) if columns > 1 else 1
            shapes[root] = channels, width * np.dtype(STORAGE[value.dtype]).itemsize
        return shapes

    def bytes(self, root: str, c0: int, c1: int, rows: int) -> int:
        """Bytes of a buffer of channels c0..c1 and so many rows of a root."""
        channels = align(c1 - c0, self.target.hardware.align_channels_in)
        return align(channels * rows * self._shapes[root][1], LINE) * self.frames

    def hull(self, root: str, c0: int, c1: int) -> tuple[int, int]:
        """The range of whole blocks of channels that holds c0..c1."""
        block = self.target.hardware.align_channels_in
        return c0 - c0 % block, min(align(c1, block), self._shapes[root][0])

    def part_bytes(self, part: int) -> int:
        """Bytes of a whole part."""
        p = self.parts[part]
        return self.bytes(p.root, p.c0, p.c1, self.heights[p.root])

    def const_bytes(self, k: int, channels: int | None = None) -> int:
        """Bytes of the constants of layer k, or of the largest chunk of so many channels."""
        key = (k, channels)
        if key not in self.cache:
            layer = self.layers[k]
            total = self.channels(k)
            step = total if channels is None else channels
            # of chunks that start at whole blocks the first is the largest
            aligned = step % self.target.hardware.align_channels_out == 0
            starts = [0] if aligned else range(0, total, step)
            boxes = [Box(c0, min(c0 + step, total), 0, 1) for c0 in starts]
            self.cache[key] = max(
                constant_spans(layer, box, self.program, self.packed)[1] for box in boxes
            )
        return self.cache[key]

    def channels(self, k: int) -> int:
        """Channels of layer k's output."""
        return self._channels[k]

    @cached_property
    def _channels(self) -> list[int]:
        return [view(self.program.values[layer.output].shape)[0] for layer in self.layers]

    def smallest_chunk(self, k: int) -> int:
        """The fewest channels that a chunk of layer k's output can have."""
        return self._smallest_chunks[k]

    @cached_property
    def _smallest_chunks(self) -> list[int]:
        """Weights are packed in blocks of output channels; features alone in smaller ones."""
        hardware = self.target.hardware
        units = [
            hardware.align_channels_out if layer.consts else hardware.align_channels_in
            for layer in self.layers
        ]
        return [
            channels if step is None else min(align(unit, step), channels)
            for unit, channels, step in zip(units, self._channels, self.channel_step, strict=True)
        ]

    def chunk_for(self, k: int, space: int) -> int | None:
        """The most channels of layer k whose constants fit `space` bytes, or None."""
        unit, channels = self.smallest_chunk(k), self.channels(k)
        low, high = 0, -(-channels // unit)
        while low < high:
            middle = (low + high + 1) // 2
            if self.const_bytes(k, min(middle * unit, channels)) <= space:
                low = middle
            else:
                high = middle - 1
        return min(low * unit, channels) if low else None

    def compute_us(self, k: int) -> float:
        """Time of one core, or of the CPU, for the whole of layer k."""
        if self.layers[k].host:
            return host_us(self.layers[k], self.program, self.target, self.frames)
        box = full_box(self.program.values[self.layers[k].output].shape)
        return layer_us(self.layers[k], box, self.program, self.target) * self.frames


def _part(name: str, home_of: Mapping[str, Home], program: Program) -> Part:
    home, channels = home_of[name], view(program.values[name].shape)[0]
    return Part(root=home.root, c0=home.channel, c1=home.channel + channels)


def _reads(
    layer: Layer, home_of: Mapping[str, Home], parts: Mapping[int, Part], program: Program
) -> tuple[Read, ...]:
    rows = _row_tables(layer, program)
    reads = []
    for name in layer.inputs:
        part = _part(name, home_of, program)
        sources = tuple(
            number
            for number, other in parts.items()
            if other.root == part.root and other.c0 < part.c1 and part.c0 < other.c1
        )
        low, high = rows[name]
        reads.append(
            Read(
                name=name, root=part.root, c0=part.c0, c1=part.c1, sources=sources, low=low,
                high=high,
            )
        )  # fmt: skip
    return tuple(reads)


def _row_tables(layer: Layer, program: Program) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Input -> the first and the last row (exclusive) that each row of the output rests on."""
    height = view(program.values[layer.output].shape)[1]
    row = np.arange(height)
    wanted: dict[str, tuple[np.ndarray, np.ndarray]] = {layer.output: (row, row + 1)}
    for op in reversed(layer.ops):
        low, high = wanted[op.output]
        for name in op.inputs:
            if name in program.consts:
                continue
            if divisible(op, program):
                need = rows_read(op, name, program, low, high)
            else:
                size = view(program.values[name].shape)[1]
                need = np.zeros(height, int), np.full(height, size)
            if name in wanted:
                before = wanted[name]
                need = np.minimum(need[0], before[0]), np.maximum(need[1], before[1])
            wanted[name] = need
    return {
        name: (
            np.minimum.accumulate(wanted[name][0][::-1])[::-1],
            np.maximum.accumulate(wanted[name][1]),
        )
        for name in layer.inputs
    }
