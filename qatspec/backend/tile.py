"""Tiles: how a layer's output is cut so that what a tile needs fits on chip."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from math import ceil

from qatspec.backend.cost import tile_us
from qatspec.backend.layers import Layer
from qatspec.backend.packing import Packed, constant_spans, features_bytes
from qatspec.backend.region import Box, full_box, layer_needs, splits
from qatspec.backend.target import Target, align
from qatspec.program import Program


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """One way to plan.

    depth     tiles in flight: 1 does one thing after another, 2 is double buffering.
    resident  values stay on chip between layers where they fit.
    search    each layer's tiles are those with its lowest estimated time, not the largest that fit.
    """

    depth: int
    resident: bool = True
    search: bool = False


#: opt level -> the ways that are planned; the one with the lowest modelled latency is taken.
EFFORTS = {
    "O0": (Effort(depth=1, resident=False),),
    "O1": (Effort(depth=2, resident=False),),
    "O2": (Effort(depth=2),),
    "O3": tuple(Effort(depth=d, search=s) for s in (False, True) for d in (2, 3)),
}

#: A search looks at tilings of at most so many tiles: finer ones only add starts of commands.
_SEARCHED_TILES = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Tiling:
    """The output is cut into chunks of `channels` (outer loop) and of `rows` (inner loop)."""

    channels: int
    rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Buffers:
    """Bytes of one slot of each buffer that a tiling needs, and how many slots there are."""

    inputs: dict[str, int]
    constants: int
    output: int
    input_slots: int
    constant_slots: int
    output_slots: int

    @property
    def total(self) -> int:
        return (
            sum(self.inputs.values()) * self.input_slots
            + self.constants * self.constant_slots
            + self.output * self.output_slots
        )


@dataclass(frozen=True, slots=True)
class Tiler:
    """Cuts the layers of one program for one march. packed: every constant's place."""

    program: Program
    target: Target
    packed: dict[str, Packed]
    effort: Effort
    cores: int

    def boxes(self, layer: Layer, tiling: Tiling) -> Iterator[Box]:
        """The tiles in the order in which they run."""
        full = full_box(self.program.values[layer.output].shape)
        for c0, c1 in _cuts(full.c1, tiling.channels):
            for h0, h1 in _cuts(full.h1, tiling.rows):
                yield Box(c0, c1, h0, h1)

    def candidates(self, layer: Layer) -> Iterator[Tiling]:
        """Tilings from the largest to the smallest: rows shrink first, weights are cut last."""
        full = full_box(self.program.values[layer.output].shape)
        by_rows, step = splits(layer, self.program)
        # with several cores a layer is cut in at least as many tiles, by rows where that is enough
        rows = ceil(full.h1 / self.cores) if by_rows else full.h1
        unit = align(self.target.hardware.align_channels_out, step) if step else full.c1
        for channels in _halves(full.c1, unit):
            for height in _halves(rows, 1) if by_rows else [full.h1]:
                yield Tiling(channels=channels, rows=height)

    def smallest(self, layer: Layer) -> Tiling:
        """The last of the candidates."""
        *_, last = self.candidates(layer)
        return last

    def buffers(self, layer: Layer, tiling: Tiling, resident: frozenset[str]) -> Buffers:
        """What the tiling needs on chip, beside the values that stay there."""
        full = full_box(self.program.values[layer.output].shape)
        # a tile from the middle: those at the borders need fewer rows
        h0 = max(0, (full.h1 - tiling.rows) // 2)
        box = Box(0, tiling.channels, h0, h0 + tiling.rows)
        chunks = ceil(full.c1 / tiling.channels)
        tiles = self._count(layer, tiling)
        needs = layer_needs(layer, box, self.program)
        depth = self.effort.depth
        values = self.program.values
        return Buffers(
            inputs={
                name: features_bytes(values[name], needs[name], self.target)
                for name in layer.inputs
                if name not in resident
            },
            constants=constant_spans(layer, box, self.program, self.packed)[1],
            output=0
            if layer.output in resident
            else features_bytes(values[layer.output], box, self.target),
            input_slots=min(depth, tiles),
            constant_slots=min(depth, chunks),
            output_slots=min(depth, tiles),
        )

    def choose(self, layer: Layer, budget: int, resident: frozenset[str]) -> Tiling | None:
        """A tiling whose buffers fit `budget` bytes, or None: the largest; with search, the one
        with the lowest modelled time."""
        fitting = (
            tiling
            for tiling in self.candidates(layer)
            if self.buffers(layer, tiling, resident).total <= budget
        )
        largest = next(fitting, None)
        if largest is None or not self.effort.search:
            return largest
        others = [t for t in fitting if self._count(layer, t) <= _SEARCHED_TILES]
        return min([largest, *others], key=lambda t: self._estimate(layer, t, resident))

    def _count(self, layer: Layer, tiling: Tiling) -> int:
        """How many tiles a tiling makes."""
        full = full_box(self.program.values[layer.output].shape)
        return ceil(full.c1 / tiling.channels) * ceil(full.h1 / tiling.rows)

    def _estimate(self, layer: Layer, tiling: Tiling, resident: frozenset[str]) -> float:
        """Time of the layer alone: loads and compute overlap, but for a first and a last tile."""
        target, values = self.target, self.program.values
        compute = traffic = 0.0
        chunk = -1
        for box in self.boxes(layer, tiling):
            compute += tile_us(layer, box, self.program, target) + target.hardware.start_overhead_us
            if box.c0 != chunk:
                traffic += constant_spans(layer, box, self.program, self.packed)[1]
                chunk = box.c0
            needs = layer_needs(layer, box, self.program)
            for name in layer.inputs:
                if name not in resident:
                    traffic += features_bytes(values[name], needs[name], target)
            if layer.output not in resident:
                traffic += features_bytes(values[layer.output], box, target)
        count = self._count(layer, tiling)
        compute /= min(self.cores, count)
        traffic /= target.hardware.ddr_bytes_per_us
        return max(compute, traffic) + min(compute, traffic) / count


def _halves(size: int, unit: int) -> list[int]:
    """size, then about half of it, and so on down to `unit`, each a multiple of `unit`."""
    found = [size]
    while found[-1] > unit:
        found.append(align(ceil(found[-1] / 2), unit))
        if found[-1] >= found[-2]:
            found.pop()
            break
    return found


def _cuts(size: int, step: int) -> Iterator[tuple[int, int]]:
    return pairwise([*range(0, size, step), size])
