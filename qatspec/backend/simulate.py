"""The referee of compiled bins: runs the command stream tile by tile, on memories of bytes.

It uses nothing but the decoded bin: weights are read from the packed section, features from the
addresses of the memory plan. A wrong halo, address, order or lifetime shows as wrong integers.
Arithmetic is that of `qatspec.program.interpret`, op by op. For whole data sets `run_compiled` is
the faster way to the same integers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from qatspec.backend.commands import Command
from qatspec.backend.encode import Compiled, broken, decode
from qatspec.backend.layers import Layer
from qatspec.backend.packing import (
    box_index,
    constant_spans,
    features_view,
    unpack_constant,
)
from qatspec.backend.region import Box, full_box, layer_needs, localise, needs, view
from qatspec.ir import RANGE, STORAGE, Op
from qatspec.program import Artifact
from qatspec.referee import evaluate


class Deviation(Exception):
    """A command computed other integers than expected; the message names it and its layer."""


def simulate(
    artifact: Artifact,
    ints: Sequence[np.ndarray],
    expected: Mapping[str, np.ndarray] | None = None,
) -> list[np.ndarray]:
    """Compute a bin tile by tile, by its encoded commands.

    artifact  the bin.
    ints      an array of integers for each input port, in order: (N, *shape of the port).
    expected  every value of the Program for these inputs but its constants, which each layer's
              tiles are compared with; None: not compared.

    Returns an array (N, *shape) for each output port. Raises DiagnosticError: QS712 on arrays that
    do not fit, QS811 on commands that cannot run; Deviation where a tile differs from `expected`.
    """
    compiled = decode(artifact)
    arrays = artifact.feed(ints)
    try:
        frames = [
            _Machine(compiled).run(
                [a[n] for a in arrays],
                None if expected is None else {name: a[n] for name, a in expected.items()},
            )
            for n in range(arrays[0].shape[0])
        ]
    except (KeyError, ValueError, IndexError, OverflowError) as problem:
        raise broken(artifact, problem) from problem
    return [np.stack(port) for port in zip(*frames, strict=True)]


class _Machine:
    """Two memories and what the commands do to them."""

    def __init__(self, compiled: Compiled) -> None:
        self.compiled, self.program, self.target = compiled, compiled.program, compiled.target
        self.names = list(compiled.program.values)
        self.homes = compiled.homes
        self.chip = np.zeros(compiled.onchip_bytes, np.uint8)
        self.ddr = np.zeros(compiled.ddr_bytes, np.uint8)

    def run(
        self, frame: Sequence[np.ndarray], expected: Mapping[str, np.ndarray] | None
    ) -> list[np.ndarray]:
        """One frame: arrays without the batch, in the order of the ports. expected: as well."""
        for port, array in zip(self.program.inputs, frame, strict=True):
            box = full_box(port.shape)
            self._write(self.ddr, self.compiled.ddr[port.name], port.name, box, box, array)
        for number, command in enumerate(self.compiled.commands):
            tile = self._step(command)
            if tile is not None and expected is not None:
                self._compare(number, command, tile, expected)
        outputs = []
        for port in self.program.outputs:
            box = full_box(port.shape)
            array = self._read(self.ddr, self.compiled.ddr[port.name], port.name, box, box)
            outputs.append(array.reshape(port.shape))
        return outputs

    def _step(self, command: Command) -> np.ndarray | None:
        """Carry out a command. Returns the tile that an `execute` computed."""
        if command.code == "execute":
            return self._execute(command)
        if command.code == "weight":
            self._weight(command)
        else:
            name, box, buffer = self.names[command.value], command.box, command.buffer
            home = self.compiled.ddr[name]
            everything = full_box(self.program.values[name].shape)
            if command.code == "load":
                array = self._read(self.ddr, home, name, everything, box)
                self._write(self.chip, command.address, name, buffer, box, array)
            else:
                array = self._read(self.chip, command.address, name, buffer, box)
                self._write(self.ddr, home, name, everything, box, array)
        return None

    def _compare(
        self,
        number: int,
        command: Command,
        tile: np.ndarray,
        expected: Mapping[str, np.ndarray],
    ) -> None:
        """Raise Deviation unless `tile` is the command's part of the layer's value."""
        layer, box = self.compiled.layers[command.layer], command.box
        value = expected[layer.output]
        features = value.reshape(view(value.shape))
        if not np.array_equal(tile, features[box.c0 : box.c1, box.h0 : box.h1]):
            raise Deviation(
                f"command {number} gives other integers for channels {box.c0}..{box.c1}, "
                f"rows {box.h0}..{box.h1} of layer `{layer.name}`"
            )

    def _weight(self, command: Command) -> None:
        layer = self.compiled.layers[command.layer]
        spans, size = constant_spans(layer, command.box, self.program, self.compiled.packed)
        if command.address + size > self.chip.size:
            raise ValueError("constants are loaded past the end of the memory")
        for span in spans:
            data = self.compiled.weights[span.offset : span.offset + span.size]
            at = command.address + span.address
            self.chip[at : at + span.size] = np.frombuffer(data, np.uint8)

    def _execute(self, command: Command) -> np.ndarray:
        layer = self.compiled.layers[command.layer]
        wanted = layer_needs(layer, command.box, self.program)
        consts = self._constants(layer, command)
        held = {}
        for name, operand in zip(layer.inputs, command.operands, strict=True):
            root, box = self._at_home(name, wanted[name])
            array = self._read(self.chip, operand.address, root, operand.box, box)
            held[name] = array, wanted[name]
        for op in layer.ops:
            held[op.output] = self._evaluate(op, wanted[op.output], held, consts)
        array, _ = held[layer.output]
        root, box = self._at_home(layer.output, command.box)
        self._write(self.chip, command.address, root, command.buffer, box, array)
        return array

    def _at_home(self, name: str, box: Box) -> tuple[str, Box]:
        """The value in whose memory `name` lies, and `box` of `name` there."""
        home = self.homes[name]
        return home.root, Box(box.c0 + home.channel, box.c1 + home.channel, box.h0, box.h1)

    def _evaluate(
        self,
        op: Op,
        box: Box,
        held: dict[str, tuple[np.ndarray, Box]],
        consts: dict[str, np.ndarray],
    ) -> tuple[np.ndarray, Box]:
        """`box` of an op's output from the parts of its operands that are held."""
        parts = needs(op, box, self.program)
        operands = []
        for name in op.inputs:
            if name in consts:
                operands.append(consts[name].astype(np.int64))
                continue
            array, base = held[name]
            part = parts[name]
            channels = slice(part.c0 - base.c0, part.c1 - base.c0)
            cut = array[channels, part.h0 - base.h0 : part.h1 - base.h0]
            operands.append(cut.reshape(1, *self._local(name, part)).astype(np.int64))
        local, skip = localise(op, box, self.program)
        result = evaluate(local, operands, self.program.values[op.inputs[0]].dtype)
        value = self.program.values[op.output]
        if len(value.shape) == 3:
            result = result[:, :, skip : skip + box.rows]
        low, high = RANGE[value.dtype]
        if result.min() < low or result.max() > high:
            raise OverflowError(f"`{op.output}` leaves {value.dtype}")
        array = result.astype(STORAGE[value.dtype]).reshape(box.channels, box.rows, -1)
        return array, box

    def _local(self, name: str, box: Box) -> tuple[int, ...]:
        """The shape of a part of a value in the value's own rank."""
        shape = self.program.values[name].shape
        if len(shape) == 3:
            return box.channels, box.rows, shape[2]
        return (box.channels,) if len(shape) == 1 else shape

    def _constants(self, layer: Layer, command: Command) -> dict[str, np.ndarray]:
        spans, _ = constant_spans(layer, command.box, self.program, self.compiled.packed)
        constants = {}
        for span in spans:
            at = command.constants + span.address
            data = self.chip[at : at + span.size].tobytes()
            constants[span.name] = unpack_constant(
                data, self.compiled.packed[span.name], span.start, span.stop
            )
        return constants

    def _read(
        self, memory: np.ndarray, address: int, name: str, buffer: Box, box: Box
    ) -> np.ndarray:
        value = self.program.values[name]
        features = features_view(memory, address, value, buffer, self.target)
        array: np.ndarray = features[box_index(value, box, buffer, self.target)]
        return array

    def _write(
        self,
        memory: np.ndarray,
        address: int,
        name: str,
        buffer: Box,
        box: Box,
        array: np.ndarray,
    ) -> None:
        value = self.program.values[name]
        features = features_view(memory, address, value, buffer, self.target)
        index = box_index(value, box, buffer, self.target)
        features[index] = array.reshape(box.channels, box.rows, -1)
