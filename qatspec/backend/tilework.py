"""What the cores compute: a layer's ops on the part of its operands that one tile needs, by the
steps of the integer kinds. Steps are made once for tiles of the same measures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from qatspec.backend.layers import Layer
from qatspec.backend.region import Box, layer_needs, localise, needs
from qatspec.ir import STORAGE, Op
from qatspec.kinds import KINDS, Trait, has, ranges
from qatspec.kinds.exact import ExactDtypes, Step
from qatspec.program import Program


class _OpPart:
    """How one op makes `box` of its result: the parts of its activations, and the step.

    cuts: (name, part, shape of the part in the value's own rank) of each activation. skip: rows of
    the step's result in front of the box."""

    def __init__(self, op: Op, box: Box, program: Program) -> None:
        self.op, self.box = op, box
        self.local, self.skip = localise(op, box, program)
        parts = needs(op, box, program)
        live = [name for name in op.inputs if name not in program.consts]
        self.cuts = [(name, parts[name], local_shape(name, parts[name], program)) for name in live]
        self.shape = program.values[op.output].shape
        self.geometry = (
            op.output, box.c0, box.c1, tuple(shape for *_, shape in self.cuts),
            tuple(sorted((key, str(value)) for key, value in self.local.attrs.items())),
        )  # fmt: skip


def local_shape(name: str, box: Box, program: Program) -> tuple[int, ...]:
    """The shape of a part of a value in the value's own rank."""
    shape = program.values[name].shape
    if len(shape) == 3:
        return box.channels, box.rows, shape[2]
    return (box.channels,) if len(shape) == 1 else shape


class TileWork:
    """The tiles of one Program's layers."""

    def __init__(self, program: Program) -> None:
        self.program, self._ranges = program, ranges(program)
        self._holders = ExactDtypes(program, self._ranges, ())
        uses = Counter(name for op in program.ops for name in op.inputs)
        uses.update(port.name for port in program.outputs)
        sums = (op.output for op in program.ops if has(op, Trait.WEIGHTED))
        self._overwritable = frozenset(name for name in sums if uses[name] == 1)
        self._needs: dict[tuple[int, Box], dict[str, Box]] = {}
        self._parts: dict[tuple[int, Box], list[_OpPart]] = {}
        self._steps: dict[object, tuple[list[np.ndarray], Step]] = {}

    def needs(self, layer: Layer, box: Box) -> dict[str, Box]:
        """For every value that the layer touches: the Box of it that `box` of its output rests
        on."""
        key = layer.index, box
        if key not in self._needs:
            self._needs[key] = layer_needs(layer, box, self.program)
        return self._needs[key]

    def run(
        self,
        layer: Layer,
        box: Box,
        operands: Mapping[str, Tensor],
        constants: Mapping[str, np.ndarray],
    ) -> Tensor:
        """Compute `box` of a layer's output.

        operands   the parts that `needs` names of the layer's inputs, integers (N, channels, rows,
                   columns).
        constants  integers, the rows of dim 0 that belong to the box's channels.

        Returns (N, channels, rows, columns) in the output's storage dtype.
        """
        wanted = self.needs(layer, box)
        held = dict(operands)
        key = layer.index, box
        if key not in self._parts:
            self._parts[key] = [_OpPart(op, wanted[op.output], self.program) for op in layer.ops]
        for part in self._parts[key]:
            step = self._step(part, constants)
            xs = []
            for name, cut, shape in part.cuts:
                base, array = wanted[name], held[name]
                array = array[
                    :, cut.c0 - base.c0 : cut.c1 - base.c0, cut.h0 - base.h0 : cut.h1 - base.h0
                ]
                xs.append(array.reshape(len(array), *shape).to(self._holders.holder(name)))
            result = step(*xs)
            if len(part.shape) == 3:
                result = result[:, :, part.skip : part.skip + part.box.rows]
            shape = len(result), part.box.channels, part.box.rows, -1
            held[part.op.output] = result.reshape(shape)
        storage = STORAGE[self.program.values[layer.output].dtype]
        dtype = torch.from_numpy(np.zeros(0, storage)).dtype
        return held[layer.output].to(dtype)

    def _step(self, part: _OpPart, constants: Mapping[str, np.ndarray]) -> Step:
        """The step of an op for tiles of these measures, made anew where the memory holds other
        constants."""
        arrays = [constants[name] for name in part.op.inputs if name in constants]
        before = self._steps.get(part.geometry)
        if before is None or any(a is not b for a, b in zip(arrays, before[0], strict=True)):
            values = dict(self.program.values)
            for name, _, shape in part.cuts:
                values[name] = replace(values[name], shape=shape)
            tile = replace(self.program, values=values, consts=constants)
            exact = ExactDtypes(tile, self._ranges, self._overwritable)
            before = arrays, KINDS[part.op.kind].step(exact, part.local)
            self._steps[part.geometry] = before
        return before[1]
