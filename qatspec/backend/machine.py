"""Runs compiled files by their commands alone, on two memories of bytes for every frame.

Weights are read from the packed section, features from the addresses of the memory plan. What a
command computes is the integer kinds' own step (`qatspec.kinds`) on the tile's part of each
operand; the interpreter, which `qatspec.backend.verify` compares every tile with, is no part of it.
Frames run together: a command is carried out once for all of them.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor

from qatspec.backend.commands import Command
from qatspec.backend.compiled import Compiled
from qatspec.backend.encode import broken, decode
from qatspec.backend.packing import Span, constant_spans, features_shape, unpack_constant
from qatspec.backend.region import Box, full_box, layer_needs, view
from qatspec.backend.tilework import TileWork, torch_dtype
from qatspec.ir import check_inputs
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


#: Copies one stretch of memory or of a tile to another.
_Copies = list[tuple[Tensor, Tensor]]


class _Bound:
    """The memories of `count` frames, and every command as a function that works on them."""

    def __init__(self, machine: Machine, count: int) -> None:
        self.machine, self.compiled, self.program = machine, machine.compiled, machine.program
        self.names, self.homes = list(self.program.values), self.compiled.homes
        self.count = count
        self.chip = torch.zeros(count, self.compiled.onchip_bytes, dtype=torch.uint8)
        self.ddr = torch.zeros(count, self.compiled.ddr_bytes, dtype=torch.uint8)
        self._tiles: dict[object, Tensor] = {}
        self.inputs = [self._port(port.name, write=True) for port in self.program.inputs]
        self.outputs = [self._port(port.name, write=False) for port in self.program.outputs]
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
        for (tile, copies), array in zip(self.inputs, arrays, strict=True):
            tile.copy_(torch.from_numpy(np.ascontiguousarray(array)).reshape(tile.shape))
            _copy(copies)
        for number, (command, step) in enumerate(
            zip(self.compiled.commands, self.steps, strict=True)
        ):
            result = step()
            if result is not None and expected is not None:
                self._compare(number, command, result, expected)
        results = []
        for (tile, copies), port in zip(self.outputs, self.program.outputs, strict=True):
            _copy(copies)
            results.append(tile.reshape(self.count, *port.shape).contiguous().clone().numpy())
        return results

    def _port(self, name: str, *, write: bool) -> tuple[Tensor, _Copies]:
        """A tile for all of a port, and the copies between it and its memory in DDR."""
        box = full_box(self.program.values[name].shape)
        tile = self._tile(("port", name), name, box)
        return tile, self._copies(self.ddr, self._address(name), name, box, box, tile, write=write)

    def _load(self, command: Command) -> Callable[[], None]:
        return self._moved(command, to_chip=True)

    def _store(self, command: Command) -> Callable[[], None]:
        return self._moved(command, to_chip=False)

    def _moved(self, command: Command, *, to_chip: bool) -> Callable[[], None]:
        name, box = self.names[command.value], command.box
        everything = full_box(self.program.values[name].shape)
        tile = self._tile("moved", name, box)
        outside = self._copies(
            self.ddr, self._address(name), name, everything, box, tile, write=not to_chip
        )
        inside = self._copies(
            self.chip, command.address, name, command.buffer, box, tile, write=to_chip
        )
        return partial(_copy, outside + inside if to_chip else inside + outside)

    def _weight(self, command: Command) -> Callable[[], None]:
        copies = []
        for span in self._spans(command):
            data = self.compiled.weights[span.offset : span.offset + span.size]
            at = command.address + span.address
            packed = torch.from_numpy(np.frombuffer(data, np.uint8).copy())
            copies.append((self.chip[:, at : at + span.size], packed))
        return partial(_copy, copies)

    def _execute(self, command: Command) -> Callable[[], Tensor]:
        layer, box = self.compiled.layers[command.layer], command.box
        needs = layer_needs(layer, box, self.program)
        operands: dict[str, Tensor] = {}
        reads: _Copies = []
        for name, operand in zip(layer.inputs, command.operands, strict=True):
            root, part = self._at_home(name, needs[name])
            tile = operands[name] = self._tile(("operand", len(operands)), name, part)
            reads += self._copies(
                self.chip, operand.address, root, operand.box, part, tile, write=False
            )
        root, part = self._at_home(layer.output, box)
        result = self._tile("result", layer.output, part)
        writes = self._copies(
            self.chip, command.address, root, command.buffer, part, result, write=True
        )
        constants = _Constants(self, command, self._spans(command))

        def run() -> Tensor:
            _copy(reads)
            result.copy_(constants.tile()(operands))
            _copy(writes)
            return result

        return run

    def _host(self, command: Command) -> Callable[[], Tensor]:
        """The CPU reads and writes DDR; its constants are not loaded by commands."""
        layer, box = self.compiled.layers[command.layer], command.box
        needs = layer_needs(layer, box, self.program)
        operands: dict[str, Tensor] = {}
        reads: _Copies = []
        for name in layer.inputs:
            root, part = self._at_home(name, needs[name])
            tile = operands[name] = self._tile(("operand", len(operands)), name, part)
            everything = full_box(self.program.values[root].shape)
            reads += self._copies(
                self.ddr, self._address(root), root, everything, part, tile, write=False
            )
        root, part = self._at_home(layer.output, box)
        result = self._tile("result", layer.output, part)
        everything = full_box(self.program.values[root].shape)
        writes = self._copies(
            self.ddr, self._address(root), root, everything, part, result, write=True
        )
        function = self.machine.work.tile(layer, box, self.program.consts)

        def run() -> Tensor:
            _copy(reads)
            result.copy_(function(operands))
            _copy(writes)
            return result

        return run

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

    def _address(self, name: str) -> int:
        return self.compiled.ddr[name]

    def _spans(self, command: Command) -> list[Span]:
        layer = self.compiled.layers[command.layer]
        return constant_spans(layer, command.box, self.program, self.compiled.packed)[0]

    def _tile(self, use: object, name: str, box: Box) -> Tensor:
        """A tile (N, channels, rows, columns) of a value, the channels innermost; its memory is
        that of every other tile of this use and shape."""
        value = self.program.values[name]
        shape = self.count, box.rows, view(value.shape)[2], box.channels
        dtype = torch_dtype(value.dtype)
        key = use, shape, dtype
        if key not in self._tiles:
            self._tiles[key] = torch.zeros(shape, dtype=dtype)
        return self._tiles[key].permute(0, 3, 1, 2)

    def _copies(
        self, memory: Tensor, address: int, name: str, buffer: Box, box: Box, tile: Tensor,
        *, write: bool,
    ) -> _Copies:  # fmt: skip
        """(to, from) of the copies between `box` in a buffer of the value `name` and a tile."""
        features, copies = self._features(memory, address, name, buffer), []
        block = self.compiled.target.hardware.align_channels_in
        columns = tile.shape[3]
        for rows, at in _row_parts(box, buffer):
            for channels, blocks, inside in _channel_parts(box, buffer, block):
                part = features[:, blocks, at, :columns, inside]
                n, count, height, width, size = part.shape
                cut = tile[:, channels, rows].permute(0, 2, 3, 1)  # channels innermost
                cut = cut.view(n, height, width, count, size).permute(0, 3, 1, 2, 4)
                if size == block and box.channels % block == 0:
                    part, cut = _words(part), _words(cut)
                copies.append((part, cut) if write else (cut, part))
        return copies

    def _features(self, memory: Tensor, address: int, name: str, buffer: Box) -> Tensor:
        """The buffer at `address` as (N, blocks, rows, columns, channels of a block); writing to it
        writes the memory."""
        value = self.program.values[name]
        shape = features_shape(value, buffer, self.compiled.target)
        dtype = torch_dtype(value.dtype)
        size = int(np.prod(shape)) * dtype.itemsize
        return memory[:, address : address + size].view(dtype).view(self.count, *shape)


class _Constants:
    """The buffer of an `execute`'s constants, and the tile's function that was made of them."""

    def __init__(self, bound: _Bound, command: Command, spans: Sequence[Span]) -> None:
        self.bound, self.command, self.spans = bound, command, spans
        size = max((span.address + span.size for span in spans), default=0)
        self.memory = bound.chip[0, command.constants : command.constants + size].numpy()
        self.seen: np.ndarray | None = None
        self.function: Callable[[Mapping[str, Tensor]], Tensor]

    def tile(self) -> Callable[[Mapping[str, Tensor]], Tensor]:
        """The function of the constants that lie in memory now, the same in every frame."""
        if self.seen is None or not np.array_equal(self.seen, self.memory):
            self.seen, machine = self.memory.copy(), self.bound.machine
            layer = machine.compiled.layers[self.command.layer]
            constants = {
                span.name: machine.unpacked(span, self.seen[span.address :][: span.size].tobytes())
                for span in self.spans
            }
            self.function = machine.work.tile(layer, self.command.box, constants)
        return self.function


def _copy(copies: _Copies) -> None:
    for to, source in copies:
        to.copy_(source)


def _words(blocks: Tensor) -> Tensor:
    """(..., channels of a block) with the channels as one word, where there is such a dtype: one
    element is copied faster than its bytes."""
    dtype = {2: torch.int16, 4: torch.int32, 8: torch.int64}.get(
        blocks.shape[-1] * blocks.dtype.itemsize
    )
    return blocks if dtype is None else blocks.view(dtype)


def _channel_parts(box: Box, buffer: Box, block: int) -> Iterator[tuple[slice, slice, slice]]:
    """(channels of the tile, blocks of the buffer, channels of these blocks) that cover it."""
    done = 0
    while done < box.channels:
        number, inside = divmod(box.c0 - buffer.c0 + done, block)
        left = box.channels - done
        if inside == 0 and left >= block:
            taken = left // block * block
            yield slice(done, done + taken), slice(number, number + taken // block), slice(0, block)
        else:
            taken = min(block - inside, left)
            yield (
                slice(done, done + taken),
                slice(number, number + 1),
                slice(inside, inside + taken),
            )
        done += taken


def _row_parts(box: Box, buffer: Box) -> Iterator[tuple[slice, slice]]:
    """(rows of the tile, rows of the ring) that cover it: two where the ring wraps."""
    done = 0
    while done < box.rows:
        at = (box.h0 + done) % buffer.rows
        taken = min(buffer.rows - at, box.rows - done)
        yield slice(done, done + taken), slice(at, at + taken)
        done += taken


_MACHINES: weakref.WeakKeyDictionary[Artifact, Machine] = weakref.WeakKeyDictionary()
