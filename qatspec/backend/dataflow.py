"""Checks that a command stream computes its layers: each command finds in both memories what it
says that it reads, and every output of the Program is complete at the end.

Nothing is computed: a memory is the list of its buffers and, for each channel and row of a buffer,
the row of the value that lies there. A buffer is gone once something else is written over a part of
it. What passes gives the integers of the layers, whatever is fed: a deleted command, one that comes
too early, a wrong address and a ring with too few rows are refused before the first run.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

import numpy as np

from qatspec.backend.commands import BadStream, Command
from qatspec.backend.compiled import Compiled
from qatspec.backend.layers import Layer
from qatspec.backend.packing import LINE, constant_spans, features_bytes
from qatspec.backend.region import Box, full_box, layer_needs, splits


@dataclass(slots=True)
class _Buffer:
    """Bytes low..high of a memory. content: the value or the constants that it is for; rows: for
    each of its channels and rows, the row of the value that lies there, -1 for none."""

    low: int
    high: int
    content: Hashable
    rows: np.ndarray


class _Memory:
    """The buffers of a memory of `size` bytes that nothing was written over."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._buffers: dict[int, _Buffer] = {}

    def written(self, low: int, size: int, content: Hashable, shape: tuple[int, int]) -> _Buffer:
        """The buffer at `low` with this content; those that it overlaps are gone."""
        buffer = self._buffers.get(low)
        if buffer and buffer.content == content and buffer.rows.shape == shape:
            return buffer
        high = low + size
        if low % LINE or high > self.size:
            raise BadStream(f"address {low} + {size} is none of the memory's {self.size}")
        gone = [at for at, b in self._buffers.items() if b.low < high and low < b.high]
        for at in gone:
            del self._buffers[at]
        rows = np.full(shape, -1, np.int32)
        self._buffers[low] = buffer = _Buffer(low, high, content, rows)
        return buffer

    def read(self, low: int, content: Hashable, shape: tuple[int, int]) -> _Buffer:
        """The buffer at `low`. Raises BadStream unless it holds this content in this shape."""
        buffer = self._buffers.get(low)
        if buffer is None or buffer.content != content or buffer.rows.shape != shape:
            raise BadStream(f"address {low} does not hold {content}")
        return buffer


def check_dataflow(compiled: Compiled) -> None:
    """Raise BadStream with the number of the first command that reads what is not there, or with an
    output that is not complete."""
    _Dataflow(compiled).follow()


class _Dataflow:
    """The two memories while a stream is followed."""

    def __init__(self, compiled: Compiled) -> None:
        self.compiled, self.program, self.target = compiled, compiled.program, compiled.target
        self.homes, self.names = compiled.homes, list(compiled.program.values)
        self.chip, self.ddr = _Memory(compiled.onchip_bytes), _Memory(compiled.ddr_bytes)
        self._needs: dict[tuple[int, Box], dict[str, Box]] = {}

    def follow(self) -> None:
        """Follow the stream from its first command to its last. Raises BadStream."""
        for port in self.program.inputs:
            box = full_box(port.shape)
            self._write(self.ddr, self._home(port.name), port.name, box, box)
        steps = {
            "weight": self._weight,
            "load": self._load,
            "execute": self._execute,
            "store": self._store,
            "host": self._host,
        }
        done = 0
        try:
            for command in self.compiled.commands:
                steps[command.code](command)
                done += 1
        except BadStream as problem:
            raise BadStream(f"command {done}: {problem}") from None
        for port in self.program.outputs:
            box = full_box(port.shape)
            self._read(self.ddr, self._home(port.name), port.name, box, box)

    def _weight(self, command: Command) -> None:
        spans, size = self._constants(command.layer, command.box)
        self.chip.written(command.address, size, spans, (0, 0))

    def _load(self, command: Command) -> None:
        name, box = self.names[command.value], command.box
        self._read(self.ddr, self._home(name), name, self._full(name), box)
        self._write(self.chip, command.address, name, command.buffer, box)

    def _store(self, command: Command) -> None:
        name, box = self.names[command.value], command.box
        self._read(self.chip, command.address, name, command.buffer, box)
        self._write(self.ddr, self._home(name), name, self._full(name), box)

    def _execute(self, command: Command) -> None:
        layer = self._layer_on(command, host=False)
        needs = self._needed(command)
        for name, operand in zip(layer.inputs, command.operands, strict=True):
            root, box = self._at_home(name, needs[name])
            self._read(self.chip, operand.address, root, operand.box, box)
        if layer.consts:
            spans, _ = self._constants(command.layer, command.box)
            self.chip.read(command.constants, spans, (0, 0))
        root, box = self._at_home(layer.output, command.box)
        if self.names[command.value] != root:
            raise BadStream(f"layer `{layer.name}` does not write `{self.names[command.value]}`")
        self._write(self.chip, command.address, root, command.buffer, box)

    def _host(self, command: Command) -> None:
        layer, needs = self._layer_on(command, host=True), self._needed(command)
        for name in layer.inputs:
            root, box = self._at_home(name, needs[name])
            self._read(self.ddr, self._home(root), root, self._full(root), box)
        root, box = self._at_home(layer.output, command.box)
        self._write(self.ddr, self._home(root), root, self._full(root), box)

    def _layer_on(self, command: Command, *, host: bool) -> Layer:
        layer = self.compiled.layers[command.layer]
        if layer.host != host:
            raise BadStream(f"layer `{layer.name}` runs on the {'CPU' if layer.host else 'chip'}")
        return layer

    def _full(self, name: str) -> Box:
        return full_box(self.program.values[name].shape)

    def _needed(self, command: Command) -> dict[str, Box]:
        """What the layer reads for the command's box, which it must be able to compute alone."""
        key = command.layer, command.box
        if key not in self._needs:
            layer, box = self.compiled.layers[command.layer], command.box
            everything = self._full(layer.output)
            by_rows, step = splits(layer, self.program)
            step = step or everything.c1
            if (
                not everything.contains(box)
                or (not by_rows and box.rows != everything.rows)
                or box.c0 % step
                or (box.c1 % step and box.c1 != everything.c1)
            ):
                raise BadStream(f"layer `{layer.name}` cannot compute {box} alone")
            self._needs[key] = layer_needs(layer, box, self.program)
        return self._needs[key]

    def _constants(self, layer: int, box: Box) -> tuple[Hashable, int]:
        spans, size = constant_spans(
            self.compiled.layers[layer], box, self.program, self.compiled.packed
        )
        return tuple((s.name, s.start, s.stop) for s in spans), size

    def _at_home(self, name: str, box: Box) -> tuple[str, Box]:
        home = self.homes[name]
        return home.root, Box(box.c0 + home.channel, box.c1 + home.channel, box.h0, box.h1)

    def _home(self, name: str) -> int:
        if name not in self.compiled.ddr:
            raise BadStream(f"`{name}` has no memory in DDR")
        return self.compiled.ddr[name]

    def _write(self, memory: _Memory, address: int, name: str, buffer: Box, box: Box) -> None:
        size = features_bytes(self.program.values[name], buffer, self.target)
        content = name, buffer.c0
        held = memory.written(address, size, content, (buffer.channels, buffer.rows))
        channels, rows = _inside(name, buffer, box)
        held.rows[channels, rows] = np.arange(box.h0, box.h1)

    def _read(self, memory: _Memory, address: int, name: str, buffer: Box, box: Box) -> None:
        content = name, buffer.c0
        held = memory.read(address, content, (buffer.channels, buffer.rows))
        channels, rows = _inside(name, buffer, box)
        if not np.array_equal(
            held.rows[channels, rows],
            np.broadcast_to(np.arange(box.h0, box.h1), (box.channels, box.rows)),
        ):
            raise BadStream(f"{box} of `{name}` is not there")


def _inside(name: str, buffer: Box, box: Box) -> tuple[slice, np.ndarray]:
    """Index of `box` in the rows of a buffer, which are a ring."""
    if not (buffer.c0 <= box.c0 and box.c1 <= buffer.c1 and box.rows <= buffer.rows):
        raise BadStream(f"{box} of `{name}` is not inside {buffer}")
    return slice(box.c0 - buffer.c0, box.c1 - buffer.c0), np.arange(box.h0, box.h1) % buffer.rows
