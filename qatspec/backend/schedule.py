"""The model of time: the command stream on one DMA engine and the cores.

Each engine takes its commands in order. A command starts when its engine is free and what it reads
is there; it may overwrite memory when nobody reads it any more. All DMA traffic shares the DDR
bandwidth. Times are microseconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from qatspec.backend.commands import Command
from qatspec.backend.cost import tile_us
from qatspec.backend.encode import Compiled
from qatspec.backend.layers import Layer
from qatspec.backend.packing import constant_spans, features_bytes
from qatspec.backend.region import Box, full_box


@dataclass(frozen=True, slots=True)
class Event:
    """A command's place in time: start and end in us; moved: bytes through DDR."""

    command: Command
    start: float
    end: float
    moved: int


@dataclass(slots=True)
class _Range:
    """A stretch of memory: until when it is written and read; layer: whose tiles wrote it."""

    low: int
    high: int
    written: float
    read: float
    layer: int


class _Hazards:
    """When a stretch of memory may be read or overwritten."""

    def __init__(self) -> None:
        self._ranges: list[_Range] = []

    def readable(self, low: int, size: int) -> float:
        return max((r.written for r in self._over(low, size)), default=0.0)

    def writable(self, low: int, size: int, layer: int) -> float:
        """Tiles of one layer write disjoint parts of a value: they do not wait for each other."""
        return max(
            (max(r.read, 0.0 if r.layer == layer else r.written) for r in self._over(low, size)),
            default=0.0,
        )

    def read(self, low: int, size: int, end: float) -> None:
        for r in self._over(low, size):
            r.read = max(r.read, end)

    def write(self, low: int, size: int, end: float, layer: int) -> None:
        same = [r for r in self._ranges if (r.low, r.high, r.layer) == (low, low + size, layer)]
        if same:
            same[0].written = max(same[0].written, end)
            return
        self._ranges = [r for r in self._ranges if r.low < low or r.high > low + size]
        self._ranges.append(_Range(low, low + size, end, 0.0, layer))

    def _over(self, low: int, size: int) -> list[_Range]:
        return [r for r in self._ranges if r.low < low + size and low < r.high]


def schedule(compiled: Compiled) -> tuple[Event, ...]:
    """When every command runs, in the order of the stream."""
    return _Clock(compiled).run()


def latency_us(compiled: Compiled) -> float:
    """Time of one run."""
    return duration_us(schedule(compiled), compiled)


def duration_us(events: Sequence[Event], compiled: Compiled) -> float:
    """Return the microseconds that one run takes whose schedule is known."""
    return (
        max((event.end for event in events), default=0.0) + compiled.target.hardware.run_overhead_us
    )


class _Clock:
    """The engines, and what they wait for."""

    def __init__(self, compiled: Compiled) -> None:
        self.compiled, self.program, self.target = compiled, compiled.program, compiled.target
        self.names = list(compiled.program.values)
        self.chip, self.ddr = _Hazards(), _Hazards()
        self.dma_free = 0.0
        self.core_free = [0.0] * compiled.cores

    def run(self) -> tuple[Event, ...]:
        steps = {
            "weight": self._weight,
            "load": self._load,
            "execute": self._execute,
            "store": self._store,
        }
        return tuple(steps[command.code](command) for command in self.compiled.commands)

    def _weight(self, command: Command) -> Event:
        layer = self.compiled.layers[command.layer]
        size = self._constants(layer, command.box)
        event = self._move(command, size, self.chip.writable(command.address, size, -1))
        self.chip.write(command.address, size, event.end, -1)
        return event

    def _load(self, command: Command) -> Event:
        home, here = self._home(command), self._here(command)
        ready = max(self.ddr.readable(*home), self.chip.writable(*here, -1))
        event = self._move(command, self._loaded(command), ready)
        self.ddr.read(*home, event.end)
        self.chip.write(*here, event.end, -1)
        return event

    def _store(self, command: Command) -> Event:
        home, here = self._home(command), self._here(command)
        ready = max(self.chip.readable(*here), self.ddr.writable(*home, command.layer))
        event = self._move(command, self._size(command.value, command.box), ready)
        self.chip.read(*here, event.end)
        self.ddr.write(*home, event.end, command.layer)
        return event

    def _execute(self, command: Command) -> Event:
        layer = self.compiled.layers[command.layer]
        sources = [
            (operand.address, features_bytes(self.program.values[name], operand.box, self.target))
            for name, operand in zip(layer.inputs, command.operands, strict=True)
        ]
        sources.append((command.constants, self._constants(layer, command.box)))
        here = self._here(command)
        ready = [self.core_free[command.core], self.chip.writable(*here, command.layer)]
        start = max(ready + [self.chip.readable(*source) for source in sources])
        work = tile_us(layer, command.box, self.program, self.target)
        end = start + self.target.hardware.start_overhead_us + work
        self.core_free[command.core] = end
        for source in sources:
            self.chip.read(*source, end)
        self.chip.write(*here, end, command.layer)
        return Event(command, start, end, 0)

    def _move(self, command: Command, size: int, ready: float) -> Event:
        start = max(self.dma_free, ready)
        self.dma_free = start + size / self.target.hardware.ddr_bytes_per_us
        return Event(command, start, self.dma_free, size)

    def _constants(self, layer: Layer, box: Box) -> int:
        return constant_spans(layer, box, self.program, self.compiled.packed)[1]

    def _size(self, value: int, box: Box) -> int:
        return features_bytes(self.program.values[self.names[value]], box, self.target)

    def _loaded(self, command: Command) -> int:
        """Bytes that a load moves: frames are converted on their way, so theirs count."""
        if fed := self.compiled.fed.get(self.names[command.value]):
            return fed.frame_bytes(command.box.h0, command.box.h1)
        return self._size(command.value, command.box)

    def _here(self, command: Command) -> tuple[int, int]:
        """(address, bytes) of the command's buffer on chip."""
        return command.address, self._size(command.value, command.buffer)

    def _home(self, command: Command) -> tuple[int, int]:
        """(address, bytes) of the command's value in DDR."""
        name = self.names[command.value]
        return self.compiled.ddr[name], self._size(
            command.value, full_box(self.program.values[name].shape)
        )
