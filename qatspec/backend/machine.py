"""Runs compiled files by their commands alone, on two memories of bytes for every frame.

Weights are read from the packed section, features from the addresses of the memory plan. What a
command computes is the integer kinds' own step (`qatspec.kinds`) on the tile's part of each
operand; the interpreter, which `qatspec.backend.verify` compares every tile with, is no part of it.
Frames run together: a command is carried out once for all of them.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from qatspec.backend.commands import Command
from qatspec.backend.compiled import Compiled
from qatspec.backend.encode import broken, decode
from qatspec.backend.layers import Layer
from qatspec.backend.packing import constant_spans, features_shape, unpack_constant
from qatspec.backend.region import Box, full_box, view
from qatspec.backend.tilework import TileWork
from qatspec.ir import STORAGE, check_inputs
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
        self.compiled, self.program, self.target = compiled, compiled.program, compiled.target
        self.names = list(compiled.program.values)
        self.homes = compiled.homes
        self.work = TileWork(compiled.program)
        self._constants_seen: dict[tuple[str, int, int], tuple[bytes, np.ndarray]] = {}

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
        count = max(1, _MEMORY // size)
        parts = []
        with exact_kernels():
            for first in range(0, arrays[0].shape[0], count):
                frames = slice(first, first + count)
                wanted = expected and {name: a[frames] for name, a in expected.items()}
                parts.append(_Frames(self, [a[frames] for a in arrays]).run(wanted))
        return [np.concatenate(port) for port in zip(*parts, strict=True)]

    def constants(self, layer: Layer, box: Box, memory: np.ndarray) -> dict[str, np.ndarray]:
        """The constants of a layer for `box` of its output, from the bytes of its buffer."""
        spans, _ = constant_spans(layer, box, self.program, self.compiled.packed)
        constants = {}
        for span in spans:
            data = memory[span.address : span.address + span.size].tobytes()
            key = span.name, span.start, span.stop
            before = self._constants_seen.get(key)
            if before is None or before[0] != data:
                array = unpack_constant(
                    data, self.compiled.packed[span.name], span.start, span.stop
                )
                self._constants_seen[key] = before = data, array
            constants[span.name] = before[1]
        return constants


class _Frames:
    """The memories of some frames, and what the commands do to them."""

    def __init__(self, machine: Machine, arrays: Sequence[np.ndarray]) -> None:
        self.machine, self.compiled, self.program = machine, machine.compiled, machine.program
        self.count = arrays[0].shape[0]
        self.chip = torch.zeros(self.count, self.compiled.onchip_bytes, dtype=torch.uint8)
        self.ddr = torch.zeros(self.count, self.compiled.ddr_bytes, dtype=torch.uint8)
        for port, array in zip(self.program.inputs, arrays, strict=True):
            box, features = full_box(port.shape), torch.from_numpy(np.ascontiguousarray(array))
            self._write(self.ddr, self.compiled.ddr[port.name], port.name, box, box, features)

    def run(self, expected: Mapping[str, np.ndarray] | None) -> list[np.ndarray]:
        """Carry out every command. Returns the output ports, (N, *shape). expected: as of
        `Machine.run`."""
        steps = {"weight": self._weight, "load": self._load, "store": self._store}
        for number, command in enumerate(self.compiled.commands):
            if command.code == "execute":
                tile = self._execute(command)
                if expected is not None:
                    self._compare(number, command, tile, expected)
            else:
                steps[command.code](command)
        outputs = []
        for port in self.program.outputs:
            box = full_box(port.shape)
            features = self._read(self.ddr, self.compiled.ddr[port.name], port.name, box, box)
            outputs.append(features.reshape(self.count, *port.shape).contiguous().numpy())
        return outputs

    def _load(self, command: Command) -> None:
        name, box = self.machine.names[command.value], command.box
        everything = full_box(self.program.values[name].shape)
        features = self._read(self.ddr, self.compiled.ddr[name], name, everything, box)
        self._write(self.chip, command.address, name, command.buffer, box, features)

    def _store(self, command: Command) -> None:
        name, box = self.machine.names[command.value], command.box
        everything = full_box(self.program.values[name].shape)
        features = self._read(self.chip, command.address, name, command.buffer, box)
        self._write(self.ddr, self.compiled.ddr[name], name, everything, box, features)

    def _weight(self, command: Command) -> None:
        layer = self.compiled.layers[command.layer]
        spans, _ = constant_spans(layer, command.box, self.program, self.compiled.packed)
        for span in spans:
            data = self.compiled.weights[span.offset : span.offset + span.size]
            at = command.address + span.address
            packed = torch.from_numpy(np.frombuffer(data, np.uint8).copy())
            self.chip[:, at : at + span.size] = packed

    def _execute(self, command: Command) -> Tensor:
        machine, layer = self.machine, self.compiled.layers[command.layer]
        needs = machine.work.needs(layer, command.box)
        held = {}
        for name, operand in zip(layer.inputs, command.operands, strict=True):
            root, box = self._at_home(name, needs[name])
            held[name] = self._read(self.chip, operand.address, root, operand.box, box)
        memory = self.chip[0, command.constants :].numpy()  # the same in every frame
        constants = machine.constants(layer, command.box, memory)
        tile = machine.work.run(layer, command.box, held, constants)
        root, box = self._at_home(layer.output, command.box)
        self._write(self.chip, command.address, root, command.buffer, box, tile)
        return tile

    def _compare(
        self, number: int, command: Command, tile: Tensor, expected: Mapping[str, np.ndarray]
    ) -> None:
        """Raise Deviation unless `tile` is the command's part of the layer's value."""
        layer, box = self.compiled.layers[command.layer], command.box
        value = expected[layer.output]
        features = value.reshape(-1, *view(value.shape[1:]))
        part = features[:, box.c0 : box.c1, box.h0 : box.h1]
        if not np.array_equal(tile.numpy().reshape(part.shape), part):
            raise Deviation(
                f"command {number} gives other integers for channels {box.c0}..{box.c1}, "
                f"rows {box.h0}..{box.h1} of layer `{layer.name}`"
            )

    def _at_home(self, name: str, box: Box) -> tuple[str, Box]:
        """The value in whose memory `name` lies, and `box` of `name` there."""
        home = self.machine.homes[name]
        return home.root, Box(box.c0 + home.channel, box.c1 + home.channel, box.h0, box.h1)

    def _features(self, memory: Tensor, address: int, name: str, buffer: Box) -> Tensor:
        """The buffer at `address` as (N, blocks, rows, columns, channels of a block); writing to it
        writes the memory."""
        value = self.program.values[name]
        shape = features_shape(value, buffer, self.machine.target)
        dtype = _dtype(value.dtype)
        size = int(np.prod(shape)) * dtype.itemsize
        return memory[:, address : address + size].view(dtype).view(self.count, *shape)

    def _read(self, memory: Tensor, address: int, name: str, buffer: Box, box: Box) -> Tensor:
        """`box` of a value, (N, channels, rows, columns) with the channels innermost."""
        features = self._features(memory, address, name, buffer)
        value = self.program.values[name]
        columns = view(value.shape)[2]
        tile = torch.empty(
            self.count, box.rows, columns, box.channels, dtype=_dtype(value.dtype)
        )  # fmt: skip
        for rows, at in _row_parts(box, buffer):
            for channels, blocks, inside in self._channel_parts(box, buffer):
                part = features[:, blocks, at, :columns, inside].permute(0, 2, 3, 1, 4)
                tile[:, rows, :, channels].view(part.shape).copy_(part)
        return tile.permute(0, 3, 1, 2)

    def _write(
        self, memory: Tensor, address: int, name: str, buffer: Box, box: Box, tile: Tensor
    ) -> None:
        features = self._features(memory, address, name, buffer)
        tile = tile.reshape(self.count, box.channels, box.rows, -1)
        columns = tile.shape[3]
        for rows, at in _row_parts(box, buffer):
            for channels, blocks, inside in self._channel_parts(box, buffer):
                part = features[:, blocks, at, :columns, inside]
                n, count, height, width, block = part.shape
                cut = tile[:, channels, rows].view(n, count, block, height, width)
                part.copy_(cut.permute(0, 1, 3, 4, 2))

    def _channel_parts(self, box: Box, buffer: Box) -> Iterator[tuple[slice, slice, slice]]:
        """(channels of the tile, blocks of the buffer, channels of these blocks) that cover it."""
        block = self.machine.target.hardware.align_channels_in
        done = 0
        while done < box.channels:
            number, inside = divmod(box.c0 - buffer.c0 + done, block)
            left = box.channels - done
            if inside == 0 and left >= block:
                blocks = left // block
                taken = blocks * block
                yield slice(done, done + taken), slice(number, number + blocks), slice(0, block)
            else:
                taken = min(block - inside, left)
                within = slice(inside, inside + taken)
                yield slice(done, done + taken), slice(number, number + 1), within
            done += taken


def _row_parts(box: Box, buffer: Box) -> Iterator[tuple[slice, slice]]:
    """(rows of the tile, rows of the ring) that cover it: two where the ring wraps."""
    done = 0
    while done < box.rows:
        at = (box.h0 + done) % buffer.rows
        taken = min(buffer.rows - at, box.rows - done)
        yield slice(done, done + taken), slice(at, at + taken)
        done += taken


def _dtype(name: str) -> torch.dtype:
    """The torch dtype that stores a Program's dtype."""
    return torch.from_numpy(np.zeros(0, STORAGE[name])).dtype


_MACHINES: weakref.WeakKeyDictionary[Artifact, Machine] = weakref.WeakKeyDictionary()
