"""The model of time: the command stream on two DMA queues and the cores.

Loads, stores and each core take their commands in order. A command starts when its unit is free,
what it reads is there, and what it overwrites has been read. Both queues share the bandwidth of
DDR: a transfer uses the time that the transfers before it have left. Where the march says so, a
transfer takes a share of its time from the cores that compute meanwhile. The first command of a
layer on a core pays for its start. Times are microseconds.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from qatspec.backend.commands import Command
from qatspec.backend.compiled import Compiled
from qatspec.backend.cost import host_us, layer_us
from qatspec.backend.layers import Layer
from qatspec.backend.packing import constant_spans, features_bytes
from qatspec.backend.region import Box, full_box, layer_needs


@dataclass(frozen=True, slots=True)
class Event:
    """A command's place in time: start and end in us; moved: bytes through DDR."""

    command: Command
    start: float
    end: float
    moved: int


@dataclass(slots=True)
class _Buffer:
    """A buffer in memory: until when each row of a range of channels is written and read. free:
    when what lay there before is done with."""

    low: int
    high: int
    rows: int
    free: float
    ranges: dict[tuple[int, int], tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)


class _Memory:
    """When a part of a memory may be read or overwritten."""

    def __init__(self) -> None:
        self._buffers: dict[tuple[int, int, Box], _Buffer] = {}

    def buffer(self, address: int, size: int, box: Box) -> _Buffer:
        """The buffer at `address`, which takes the place of those that it overlaps."""
        key = (address, size, box)
        buffer = self._buffers.get(key)
        if buffer is None:
            high, free = address + size, 0.0
            over = [k for k, b in self._buffers.items() if b.low < high and address < b.high]
            for other in over:
                old = self._buffers.pop(other)
                times = [float(t.max()) for pair in old.ranges.values() for t in pair]
                free = max([free, old.free, *times])
            buffer = self._buffers[key] = _Buffer(address, high, box.rows, free)
        return buffer


def _rows(buffer: _Buffer, box: Box) -> slice | np.ndarray:
    """Index of the rows of `box` in the ring of a buffer."""
    if box.rows >= buffer.rows:
        return slice(None)
    first = box.h0 % buffer.rows
    if first + box.rows <= buffer.rows:
        return slice(first, first + box.rows)
    return np.arange(box.h0, box.h1) % buffer.rows


def _readable(buffer: _Buffer, box: Box) -> float:
    """When everything that was written to `box` is there."""
    index, time = _rows(buffer, box), buffer.free
    for (c0, c1), (written, _) in buffer.ranges.items():
        if c0 < box.c1 and box.c0 < c1:
            time = max(time, float(written[index].max()))
    return time


def _writable(buffer: _Buffer, box: Box) -> float:
    """When everything that lay in `box` has been written and read."""
    index, time = _rows(buffer, box), buffer.free
    for (c0, c1), (written, read) in buffer.ranges.items():
        if c0 < box.c1 and box.c0 < c1:
            time = max(time, float(written[index].max()), float(read[index].max()))
    return time


def _note(buffer: _Buffer, box: Box, end: float, write: bool) -> None:
    """`box` is written, or read, until `end`."""
    index, key = _rows(buffer, box), (box.c0, box.c1)
    if write and key not in buffer.ranges:
        buffer.ranges[key] = (np.zeros(buffer.rows), np.zeros(buffer.rows))
    for (c0, c1), times in buffer.ranges.items():
        if c0 < box.c1 and box.c0 < c1:
            part = times[0 if write else 1]
            part[index] = np.maximum(part[index], end)


class _Bus:
    """The time that transfers have taken of DDR, as disjoint stretches in order."""

    def __init__(self) -> None:
        self._starts: list[float] = []
        self._ends: list[float] = []

    def take(self, ready: float, length: float) -> tuple[float, float]:
        """Use the first `length` of free time from `ready` on. Returns (start, end)."""
        starts, ends = self._starts, self._ends
        i = bisect_right(ends, ready)
        time, first, left = ready, -1.0, length
        at = i
        while left > 0:
            if i < len(starts) and starts[i] <= time:
                time = max(time, ends[i])
                i += 1
                continue
            gap = (starts[i] if i < len(starts) else np.inf) - time
            used = min(gap, left)
            first = time if first < 0 else first
            time, left = time + used, left - used
        if first < 0:
            return ready, ready
        self._insert(at, i, first, time)
        return first, time

    def _insert(self, low: int, high: int, first: float, last: float) -> None:
        """One stretch in place of those with indices low..high, which lie within it."""
        if low < high:
            first, last = min(first, self._starts[low]), max(last, self._ends[high - 1])
        self._starts[low:high] = [first]
        self._ends[low:high] = [last]


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
    """The units, and what they wait for."""

    def __init__(self, compiled: Compiled) -> None:
        self.compiled, self.program, self.target = compiled, compiled.program, compiled.target
        self.names = list(compiled.program.values)
        self.homes = compiled.homes
        self.chip, self.ddr, self.bus = _Memory(), _Memory(), _Bus()
        self.free = {"load": 0.0, "store": 0.0}
        self.core_free = [0.0] * compiled.cores
        self.stalls = [0.0] * compiled.cores  # what transfers take of a core's next time
        self.host_free = 0.0
        self.started: set[tuple[int, int]] = set()
        self.work: dict[tuple[int, Box], float] = {}
        self.needs: dict[tuple[int, Box], dict[str, Box]] = {}

    def run(self) -> tuple[Event, ...]:
        steps = {
            "weight": self._weight,
            "load": self._load,
            "execute": self._execute,
            "store": self._store,
            "host": self._host,
        }
        return tuple(steps[command.code](command) for command in self.compiled.commands)

    def _weight(self, command: Command) -> Event:
        layer = self.compiled.layers[command.layer]
        size, box = self._constants(layer, command.box), Box(0, 1, 0, 1)
        here = self.chip.buffer(command.address, size, box)
        event = self._move("load", command, size, _writable(here, box))
        _note(here, box, event.end, write=True)
        return event

    def _load(self, command: Command) -> Event:
        home, here, box = self._home(command), self._here(command), command.box
        ready = max(_readable(home, box), _writable(here, box))
        event = self._move("load", command, self._loaded(command), ready)
        _note(home, box, event.end, write=False)
        _note(here, box, event.end, write=True)
        return event

    def _store(self, command: Command) -> Event:
        home, here, box = self._home(command), self._here(command), command.box
        ready = max(_readable(here, box), _writable(home, box))
        event = self._move("store", command, self._size(command.value, box), ready)
        _note(here, box, event.end, write=False)
        _note(home, box, event.end, write=True)
        return event

    def _execute(self, command: Command) -> Event:
        layer, hardware = self.compiled.layers[command.layer], self.target.hardware
        key = (command.layer, command.box)
        if key not in self.work:
            us = layer_us(layer, command.box, self.program, self.target)
            self.work[key] = us * self.compiled.frames
            self.needs[key] = layer_needs(layer, command.box, self.program)
        sources = []
        for name, operand in zip(layer.inputs, command.operands, strict=True):
            root, box = self._at_home(name, self.needs[key][name])
            size = self._bytes(root, operand.box)
            sources.append((self.chip.buffer(operand.address, size, operand.box), box))
        if layer.consts:
            # the constants of a share of the rows are those of all its channels
            size, box = self._constants(layer, command.box), Box(0, 1, 0, 1)
            sources.append((self.chip.buffer(command.constants, size, box), box))
        here = self._here(command)
        _, result = self._at_home(layer.output, command.box)
        ready = [self.core_free[command.core], _writable(here, result)]
        start = max(ready + [_readable(buffer, box) for buffer, box in sources])
        # a core that waits loses nothing
        idle = start - self.core_free[command.core]
        end = start + self.work[key] + max(0.0, self.stalls[command.core] - idle)
        self.stalls[command.core] = 0.0
        if (command.layer, command.core) not in self.started:
            self.started.add((command.layer, command.core))
            end += hardware.start_overhead_us
        self.core_free[command.core] = end
        for buffer, box in sources:
            _note(buffer, box, end, write=False)
        _note(here, result, end, write=True)
        return Event(command, start, end, 0)

    def _host(self, command: Command) -> Event:
        layer = self.compiled.layers[command.layer]
        root, box = self._at_home(layer.output, command.box)
        here = self._value_in_ddr(root)
        sources = []
        for name in layer.inputs:
            shape = self.program.values[name].shape
            source, part = self._at_home(name, full_box(shape))
            sources.append((self._value_in_ddr(source), part))
        ready = [self.host_free, _writable(here, box)]
        start = max(ready + [_readable(buffer, part) for buffer, part in sources])
        end = self.host_free = start + self._host_us(layer)
        for buffer, part in sources:
            _note(buffer, part, end, write=False)
        _note(here, box, end, write=True)
        return Event(command, start, end, 0)

    def _at_home(self, name: str, box: Box) -> tuple[str, Box]:
        home = self.homes[name]
        return home.root, Box(box.c0 + home.channel, box.c1 + home.channel, box.h0, box.h1)

    def _move(self, queue: str, command: Command, size: int, ready: float) -> Event:
        ready = max(ready, self.free[queue])
        start, end = self.bus.take(ready, size / self.target.hardware.ddr_bytes_per_us)
        self.free[queue] = end
        stall = self.target.hardware.ddr_stall * (end - start)
        self.stalls = [before + stall for before in self.stalls]
        return Event(command, start, end, size)

    def _constants(self, layer: Layer, box: Box) -> int:
        return constant_spans(layer, box, self.program, self.compiled.packed)[1]

    def _host_us(self, layer: Layer) -> float:
        return host_us(layer, self.program, self.target, self.compiled.frames)

    def _bytes(self, name: str, box: Box) -> int:
        """Bytes of `box` of all frames of a run."""
        size = features_bytes(self.program.values[name], box, self.target)
        return size * self.compiled.frames

    def _size(self, value: int, box: Box) -> int:
        return self._bytes(self.names[value], box)

    def _loaded(self, command: Command) -> int:
        """Bytes that a load moves: frames are converted on their way, so theirs count."""
        if fed := self.compiled.fed.get(self.names[command.value]):
            return fed.frame_bytes(command.box.h0, command.box.h1) * self.compiled.frames
        return self._size(command.value, command.box)

    def _here(self, command: Command) -> _Buffer:
        """The command's buffer on chip."""
        size = self._size(command.value, command.buffer)
        return self.chip.buffer(command.address, size, command.buffer)

    def _home(self, command: Command) -> _Buffer:
        """The command's value in DDR."""
        return self._value_in_ddr(self.names[command.value])

    def _value_in_ddr(self, name: str) -> _Buffer:
        box = full_box(self.program.values[name].shape)
        size = self._bytes(name, box)
        return self.ddr.buffer(self.compiled.ddr[name], size, box)
