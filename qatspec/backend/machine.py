"""Runs compiled files by their commands alone, on two memories of bytes.

Weights are read from the packed section, features from the addresses of the memory plan. What a
command computes is the integer kinds' own step (`qatspec.kinds`) on the tile's part of each
operand; the interpreter, which `qatspec.backend.verify` compares every tile with, is no part of it.

Frames run together: a command is carried out once for all of them, and what lies at an address is
there for each of `count` frames, one behind the other, from byte count * address on. Two buffers
share bytes where they do on the chip. Inside a buffer a frame's integers lie by row, column and
channel, so that kernels read a tile where it is (ADR 0131): what reads a buffer sees it with the
measures of what wrote it (`qatspec.backend.dataflow`), so their order there can be any.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import prod

import numpy as np
import torch
from torch import Tensor

from qatspec.backend.commands import Command
from qatspec.backend.compiled import Compiled
from qatspec.backend.encode import broken, decode
from qatspec.backend.packing import Span, constant_spans, features_bytes, unpack_constant
from qatspec.backend.region import Box, full_box, layer_needs, view
from qatspec.backend.target import Target
from qatspec.backend.tilework import TileWork, torch_dtype
from qatspec.ir import Value, check_inputs
from qatspec.kinds.exact import exact_kernels
from qatspec.program import Artifact

#: Bytes of both memories of all frames that run together.
_MEMORY = 1 << 28


class Deviation(Exception):
    """A command computed other integers than expected; the message names it and its layer."""


def run_compiled(artifact: Artifact, ints: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Run a bin of `assemble` by its commands.

    artifact  the bin.
    ints      an array of the Program's integers for each of its ports, in order: (N, *shape).

    Returns an array (N, *shape) for each output port. Raises DiagnosticError: QS811 for a damaged
    bin, among them one whose commands do not compute its layers; QS712 on arrays that do not fit.
    """
    machine = _MACHINES.get(artifact)
    if machine is None:
        machine = _MACHINES[artifact] = Machine(decode(artifact))
    try:
        return machine.run(ints)
    except (KeyError, ValueError, IndexError, OverflowError, RuntimeError) as problem:
        raise broken(artifact, problem) from problem


class Machine:
    """A decoded bin, ready to run."""

    def __init__(self, compiled: Compiled) -> None:
        self.compiled, self.program = compiled, compiled.program
        self.work = TileWork(compiled.program)
        self._bound: _Bound | None = None
        self._unpacked: dict[tuple[str, int, int], tuple[bytes, np.ndarray]] = {}

    def unpacked(self, span: Span, data: bytes) -> np.ndarray:
        """A constant from the bytes of its buffer; equal bytes give the same array."""
        key = span.name, span.start, span.stop
        before = self._unpacked.get(key)
        if before is None or before[0] != data:
            packed = self.compiled.packed[span.name]
            before = data, unpack_constant(data, packed, span.start, span.stop)
            self._unpacked[key] = before
        return before[1]

    def run(
        self, ints: Sequence[np.ndarray], expected: Mapping[str, np.ndarray] | None = None
    ) -> list[np.ndarray]:
        """Compute the outputs of all frames.

        ints      an array (N, *shape) of the Program's integers for each of its ports.
        expected  every value of the Program for these inputs but its constants, which each tile is
                  compared with; None: not compared.

        Returns an array (N, *shape) for each output port. Raises DiagnosticError QS712 on arrays
        that do not fit; Deviation where a tile differs from `expected`.
        """
        arrays = check_inputs(self.program, ints)
        size = self.compiled.onchip_bytes + self.compiled.ddr_bytes
        most = max(1, _MEMORY // size)
        parts = []
        with exact_kernels():
            for first in range(0, arrays[0].shape[0], most):
                frames = slice(first, first + most)
                some = [a[frames] for a in arrays]
                if self._bound is None or self._bound.count != len(some[0]):
                    self._bound = _Bound(self, len(some[0]))
                wanted = expected and {name: a[frames] for name, a in expected.items()}
                parts.append(self._bound.run(some, wanted))
        return [np.concatenate(port) for port in zip(*parts, strict=True)]


#: (to, from) of copies between memories and tiles.
_Copies = list[tuple[Tensor, Tensor]]


class _Memory:
    """The bytes of `count` frames; an address has `count` times its bytes."""

    def __init__(self, size: int, count: int) -> None:
        self.size, self.count = size, count
        self.bytes = torch.zeros(size * count, dtype=torch.uint8)
        self._start = self.bytes.data_ptr()
        self._end = self._start + size * count

    def constants(self, address: int, size: int) -> Tensor:
        """`size` bytes at `address` that are the same for all frames. Raises ValueError past the
        memory's end."""
        self._check_end(address, size)
        return self.bytes[address * self.count :][:size]

    def features(self, address: int, value: Value, buffer: Box, target: Target) -> Tensor:
        """The buffer at `address` as (N, channels, rows, columns); writing to it writes the memory.
        Raises ValueError past the memory's end."""
        self._check_end(address, features_bytes(value, buffer, target))
        shape = self.count, buffer.rows, view(value.shape)[2], buffer.channels
        dtype = torch_dtype(value.dtype)
        size = prod(shape) * dtype.itemsize
        stretch = self.bytes[address * self.count :][:size]
        return stretch.view(dtype).view(shape).permute(0, 3, 1, 2)

    def holds(self, tensor: Tensor) -> bool:
        """Return whether `tensor` is a view of this memory."""
        return self._start <= tensor.data_ptr() < self._end

    def _check_end(self, address: int, size: int) -> None:
        if address + size > self.size:
            raise ValueError(f"address {address} + {size} is past {self.size}")


@dataclass(frozen=True, slots=True)
class _Stretch:
    """A box of a value in a buffer: the buffer's channels, and the rows that lie there together as
    (rows of the box, view of the memory)."""

    parts: Sequence[tuple[slice, Tensor]]

    def written(self, tile: Tensor) -> None:
        """Copy a tile (N, channels, rows, columns) there."""
        if len(self.parts) == 1:
            self.parts[0][1].copy_(tile)
            return
        for rows, part in self.parts:
            part.copy_(tile[:, :, rows])


class _Bound:
    """The memories of `count` frames, and every command as a function that works on them."""

    def __init__(self, machine: Machine, count: int) -> None:
        self.machine, self.compiled, self.program = machine, machine.compiled, machine.program
        self.names, self.homes = list(self.program.values), self.compiled.homes
        self.count = count
        self.chip = _Memory(self.compiled.onchip_bytes, count)
        self.ddr = _Memory(self.compiled.ddr_bytes, count)
        self._tiles: dict[object, Tensor] = {}
        self.inputs = [self._in_ddr(p.name, self._full(p.name)) for p in self.program.inputs]
        self.outputs = [self._in_ddr(p.name, self._full(p.name)) for p in self.program.outputs]
        bind = {
            "weight": self._weight,
            "load": self._load,
            "execute": self._execute,
            "store": self._store,
            "host": self._host,
        }
        self.steps = [bind[command.code](command) for command in self.compiled.commands]

    def run(
        self, arrays: Sequence[np.ndarray], expected: Mapping[str, np.ndarray] | None
    ) -> list[np.ndarray]:
        """Carry out every command. Returns the output ports, (N, *shape). expected: as of
        `Machine.run`."""
        for stretch, array in zip(self.inputs, arrays, strict=True):
            features = array.reshape(self.count, *view(array.shape[1:]))
            stretch.written(torch.from_numpy(np.ascontiguousarray(features)))
        for number, (command, step) in enumerate(
            zip(self.compiled.commands, self.steps, strict=True)
        ):
            result = step()
            if result is not None and expected is not None:
                self._compare(number, command, result, expected)
        results = []
        for stretch, port in zip(self.outputs, self.program.outputs, strict=True):
            ((_, lying),) = stretch.parts
            array = lying.contiguous(memory_format=torch.contiguous_format).numpy()
            results.append(array.reshape(self.count, *port.shape).copy())
        return results

    def _load(self, command: Command) -> Callable[[], None]:
        return self._moved(command, to_chip=True)

    def _store(self, command: Command) -> Callable[[], None]:
        return self._moved(command, to_chip=False)

    def _moved(self, command: Command, *, to_chip: bool) -> Callable[[], None]:
        name, box = self.names[command.value], command.box
        ((_, outside),) = self._in_ddr(name, box).parts
        copies = []
        for rows, inside in self._on_chip(command.address, name, command.buffer, box).parts:
            part = outside[:, :, rows]
            copies.append((inside, part) if to_chip else (part, inside))
        return partial(_copy, copies)

    def _weight(self, command: Command) -> Callable[[], None]:
        copies, spans = [], self._spans(command)
        memory = self.chip.constants(command.address, _end(spans))
        for span in spans:
            data = self.compiled.weights[span.offset : span.offset + span.size]
            packed = torch.from_numpy(np.frombuffer(data, np.uint8).copy())
            copies.append((memory[span.address :][: span.size], packed))
        return partial(_copy, copies)

    def _execute(self, command: Command) -> Callable[[], Tensor]:
        layer, box = self.compiled.layers[command.layer], command.box
        needs = layer_needs(layer, box, self.program)
        reads: _Copies = []
        operands: dict[str, Tensor] = {}
        for name, operand in zip(layer.inputs, command.operands, strict=True):
            root, part = self._at_home(name, needs[name])
            stretch = self._on_chip(operand.address, root, operand.box, part)
            operands[name] = self._operand(len(operands), name, part, stretch, reads)
        root, part = self._at_home(layer.output, box)
        result = self._on_chip(command.address, root, command.buffer, part)
        constants = _Constants(self, command, self._spans(command))
        return partial(self._carried_out, reads, constants.tile, operands, result, self.chip)

    def _host(self, command: Command) -> Callable[[], Tensor]:
        """The CPU reads and writes DDR; its constants are not loaded by commands."""
        layer, box = self.compiled.layers[command.layer], command.box
        needs = layer_needs(layer, box, self.program)
        reads: _Copies = []
        operands: dict[str, Tensor] = {}
        for name in layer.inputs:
            root, part = self._at_home(name, needs[name])
            stretch = self._in_ddr(root, part)
            operands[name] = self._operand(len(operands), name, part, stretch, reads)
        root, part = self._at_home(layer.output, box)
        function = self.machine.work.tile(layer, box, self.program.consts)
        result = self._in_ddr(root, part)
        return partial(self._carried_out, reads, lambda: function, operands, result, self.ddr)

    @staticmethod
    def _carried_out(
        reads: _Copies,
        function: Callable[[], Callable[[Mapping[str, Tensor]], Tensor]],
        operands: Mapping[str, Tensor],
        result: _Stretch,
        memory: _Memory,
    ) -> Tensor:
        """Compute a tile of what lies in memory, and write it there. Returns it."""
        _copy(reads)
        tile = function()(operands)
        if memory.holds(tile):
            tile = tile.clone()  # it is written where it may be read
        result.written(tile)
        return tile

    def _operand(
        self, number: int, name: str, box: Box, stretch: _Stretch, reads: _Copies
    ) -> Tensor:
        """An operand where it lies in memory; a tile of its own, which copies of `reads` fill,
        where the ring's end divides it or the layer may write over it."""
        if len(stretch.parts) == 1 and not self.machine.work.may_overwrite(name):
            return stretch.parts[0][1]
        value = self.program.values[name]
        shape = self.count, box.rows, view(value.shape)[2], box.channels
        key = number, shape, value.dtype
        if key not in self._tiles:
            self._tiles[key] = torch.zeros(shape, dtype=torch_dtype(value.dtype))
        tile = self._tiles[key].permute(0, 3, 1, 2)
        reads += [(tile[:, :, rows], part) for rows, part in stretch.parts]
        return tile

    def _compare(
        self, number: int, command: Command, tile: Tensor, expected: Mapping[str, np.ndarray]
    ) -> None:
        """Raise Deviation unless `tile` is the command's part of the layer's value."""
        layer, box = self.compiled.layers[command.layer], command.box
        value = expected[layer.output]
        features = value.reshape(-1, *view(value.shape[1:]))
        part = features[:, box.c0 : box.c1, box.h0 : box.h1]
        if not np.array_equal(tile.numpy(), part):
            raise Deviation(
                f"command {number} gives other integers for channels {box.c0}..{box.c1}, "
                f"rows {box.h0}..{box.h1} of layer `{layer.name}`"
            )

    def _at_home(self, name: str, box: Box) -> tuple[str, Box]:
        """The value in whose memory `name` lies, and `box` of `name` there."""
        home = self.homes[name]
        return home.root, Box(box.c0 + home.channel, box.c1 + home.channel, box.h0, box.h1)

    def _full(self, name: str) -> Box:
        return full_box(self.program.values[name].shape)

    def _in_ddr(self, name: str, box: Box) -> _Stretch:
        address = self.compiled.ddr[name]
        return self._stretch(self.ddr, address, name, self._full(name), box)

    def _on_chip(self, address: int, name: str, buffer: Box, box: Box) -> _Stretch:
        return self._stretch(self.chip, address, name, buffer, box)

    def _stretch(self, memory: _Memory, address: int, name: str, buffer: Box, box: Box) -> _Stretch:
        """Where `box` of a value lies in its buffer: two parts where the ring's end divides it."""
        value = self.program.values[name]
        features = memory.features(address, value, buffer, self.compiled.target)
        features = features[:, box.c0 - buffer.c0 : box.c1 - buffer.c0]
        return _Stretch([(rows, features[:, :, at]) for rows, at in _row_parts(box, buffer)])

    def _spans(self, command: Command) -> list[Span]:
        layer = self.compiled.layers[command.layer]
        return constant_spans(layer, command.box, self.program, self.compiled.packed)[0]


class _Constants:
    """The buffer of an `execute`'s constants, and the tile's function that is made of them."""

    def __init__(self, bound: _Bound, command: Command, spans: Sequence[Span]) -> None:
        self.bound, self.command, self.spans = bound, command, spans
        self.memory = bound.chip.constants(command.constants, _end(spans)).numpy()
        self.function: Callable[[Mapping[str, Tensor]], Tensor] | None = None

    def tile(self) -> Callable[[Mapping[str, Tensor]], Tensor]:
        """The function of the constants that lie in memory when the command is first carried out:
        `weight` commands bring the same ones in each run, and nothing is written over them before
        this command (`qatspec.backend.dataflow`)."""
        if self.function is None:
            machine = self.bound.machine
            layer = machine.compiled.layers[self.command.layer]
            constants = {
                s.name: machine.unpacked(s, self.memory[s.address :][: s.size].tobytes())
                for s in self.spans
            }
            self.function = machine.work.tile(layer, self.command.box, constants)
        return self.function


def _end(spans: Sequence[Span]) -> int:
    """Bytes of the buffer of these constants."""
    return max((span.address + span.size for span in spans), default=0)


def _copy(copies: _Copies) -> None:
    for to, source in copies:
        to.copy_(source)


def _row_parts(box: Box, buffer: Box) -> Iterator[tuple[slice, slice]]:
    """(rows of the tile, rows of the ring) that cover it: two where the ring wraps."""
    done = 0
    while done < box.rows:
        at = (box.h0 + done) % buffer.rows
        taken = min(buffer.rows - at, box.rows - done)
        yield slice(done, done + taken), slice(at, at + taken)
        done += taken


_MACHINES: weakref.WeakKeyDictionary[Artifact, Machine] = weakref.WeakKeyDictionary()
