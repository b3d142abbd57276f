"""What the cores compute: a layer's ops on the part of its operands that one tile needs, by the
steps of the integer kinds. Steps are made once for tiles of the same measures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import overload

import numpy as np
import torch
from torch import Tensor

from qatspec.backend.layers import Layer
from qatspec.backend.region import Box, layer_needs, localise, needs, view
from qatspec.ir import STORAGE, Interval, Op
from qatspec.kinds import KINDS, Trait, has, ranges
from qatspec.kinds.exact import ExactDtypes, Step
from qatspec.program import Program
from qatspec.program.fused import requantized


def local_shape(name: str, box: Box, program: Program) -> tuple[int, ...]:
    """The shape of a part of a value in the value's own rank."""
    shape = program.values[name].shape
    if len(shape) == 3:
        return box.channels, box.rows, shape[2]
    return (box.channels,) if len(shape) == 1 else shape


@dataclass(frozen=True, slots=True)
class _Cut:
    """The part of a value that an op reads: what is cut from the part that is held (None: all of
    it), and the shape that it has in the value's own rank."""

    name: str
    index: tuple[slice, ...] | None
    shape: tuple[int, ...]
    dtype: torch.dtype

    def of(self, held: Tensor) -> Tensor:
        """The part, of what is held: (N, channels, rows, columns)."""
        part = held if self.index is None else held[self.index]
        part = _shaped(part, self.shape)
        return part if part.dtype == self.dtype else part.to(self.dtype)


@dataclass(frozen=True, slots=True)
class _OpPart:
    """How one op makes a part of its result. rows: those of the step's result that belong to it,
    None for all; shape: (channels, rows, columns) of the part."""

    step: Step
    cuts: tuple[_Cut, ...]
    output: str
    rows: slice | None
    shape: tuple[int, int, int]


class TileWork:
    """The tiles of one Program's layers."""

    def __init__(self, program: Program) -> None:
        self.program, self._ranges = program, ranges(program)
        uses = Counter(name for op in program.ops for name in op.inputs)
        uses.update(port.name for port in program.outputs)
        sums = (op.output for op in program.ops if has(op, Trait.WEIGHTED))
        self._overwritable = frozenset(name for name in sums if uses[name] == 1)
        self._holders = ExactDtypes(program, self._ranges, ())
        self._steps: dict[object, tuple[list[np.ndarray], Step | None]] = {}

    def may_overwrite(self, name: str) -> bool:
        """Return whether a step that reads the value `name` may write its result there."""
        return name in self._overwritable

    def tile(
        self, layer: Layer, box: Box, constants: Mapping[str, np.ndarray]
    ) -> Callable[[Mapping[str, Tensor]], Tensor]:
        """How `box` of a layer's output is computed.

        constants  integers of the layer's constants, the entries of dim 0 that belong to the box's
                   channels.

        Returns a function of the parts that `layer_needs` names of the layer's inputs, integers
        (N, channels, rows, columns); where `may_overwrite` says so, their memory is overwritten. It
        returns (N, channels, rows, columns) in the output's storage dtype, perhaps in that memory.
        """
        wanted = layer_needs(layer, box, self.program)
        parts = self._parts(layer.ops, wanted, constants)
        dtype = torch_dtype(self.program.values[layer.output].dtype)

        def run(operands: Mapping[str, Tensor]) -> Tensor:
            held = dict(operands)
            for part in parts:
                result = part.step(*[cut.of(held[cut.name]) for cut in part.cuts])
                if part.rows is not None:
                    result = result[:, :, part.rows]
                held[part.output] = _shaped(result, part.shape)
            return held[layer.output].to(dtype)

        return run

    def _parts(
        self, ops: Sequence[Op], wanted: Mapping[str, Box], constants: Mapping[str, np.ndarray]
    ) -> list[_OpPart]:
        """The ops of a layer; products and the rounding of their sums as one kernel of bytes where
        that is exact, as the executor of Programs computes them."""
        parts: list[_OpPart] = []
        for op, behind in zip_longest(ops, ops[1:]):
            if parts and parts[-1].output == op.output:
                continue  # part of the kernel before it
            joined = behind and self._joined(op, behind, wanted, constants)
            parts.append(joined or self._part(op, wanted, constants))
        return parts

    def _joined(
        self, op: Op, requant: Op, wanted: Mapping[str, Box], constants: Mapping[str, np.ndarray]
    ) -> _OpPart | None:
        """One kernel of both ops, where `requant` alone reads the sums of `op`; else None."""
        alone = requant.kind == "requant" and op.output in self._overwritable
        terms = [name for name in requant.inputs if name not in self.program.consts]
        if not alone or terms != [op.output] or wanted[op.output] != wanted[requant.output]:
            return None
        part = self._part(op, wanted, constants, requant)
        return part and replace(part, output=requant.output)

    @overload
    def _part(
        self, op: Op, wanted: Mapping[str, Box], constants: Mapping[str, np.ndarray]
    ) -> _OpPart: ...

    @overload
    def _part(
        self, op: Op, wanted: Mapping[str, Box], constants: Mapping[str, np.ndarray], requant: Op
    ) -> _OpPart | None: ...

    def _part(
        self,
        op: Op,
        wanted: Mapping[str, Box],
        constants: Mapping[str, np.ndarray],
        requant: Op | None = None,
    ) -> _OpPart | None:
        box = wanted[op.output]
        local, skip = localise(op, box, self.program)
        cuts, parts = [], needs(op, box, self.program)
        for name in (n for n in op.inputs if n in parts):  # x + x reads one value twice
            part, base = parts[name], wanted[name]
            index = (
                slice(None),
                slice(part.c0 - base.c0, part.c1 - base.c0),
                slice(part.h0 - base.h0, part.h1 - base.h0),
            )
            shape = local_shape(name, part, self.program)
            cuts.append(
                _Cut(name, None if part == base else index, shape, self._holders.holder(name))
            )
        step = self._step(local, box, cuts, constants, requant)
        if step is None:
            return None
        result = self.program.values[op.output].shape
        image = len(result) == 3
        return _OpPart(
            step=step,
            cuts=tuple(cuts),
            output=op.output,
            rows=slice(skip, skip + box.rows) if image else None,
            shape=(box.channels, box.rows, view(result)[2]),
        )

    def _step(
        self,
        op: Op,
        box: Box,
        cuts: Sequence[_Cut],
        constants: Mapping[str, np.ndarray],
        requant: Op | None,
    ) -> Step | None:
        """The step of an op with local attributes, with the rounding behind it where `requant` is
        given (None: no such step); the same for tiles of the same measures."""
        shapes = {cut.name: cut.shape for cut in cuts}
        attributes = tuple(sorted((key, str(value)) for key, value in op.attrs.items()))
        key = op.output, requant is None, box.c0, box.c1, tuple(shapes.values()), attributes
        names = [*op.inputs, *(requant.inputs if requant else ())]
        arrays = [constants[name] for name in names if name in constants]
        if key in self._steps:
            before, step = self._steps[key]
            if all(a is b for a, b in zip(arrays, before, strict=True)):
                return step
        values = dict(self.program.values)
        for name, shape in shapes.items():
            values[name] = replace(values[name], shape=shape)
        tile = replace(self.program, values=values, consts=constants)
        sums = {op.output: _of_channels(self._ranges[op.output], box)} if requant else {}
        exact = ExactDtypes(tile, {**self._ranges, **sums}, self._overwritable)
        step = requantized(exact, op, requant) if requant else KINDS[op.kind].step(exact, op)
        self._steps[key] = arrays, step
        return step


def _shaped(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    """`x` as (N, *shape)."""
    return x if x.shape[1:] == shape else x.reshape(-1, *shape)


def _of_channels(interval: Interval, box: Box) -> Interval:
    """What the channels of a box can hold, of what all of a value's channels can."""
    if len(interval.low) == 1:
        return interval
    if interval.axis != 1:
        return interval.merged()
    channels = slice(box.c0, box.c1)
    return replace(interval, low=interval.low[channels], high=interval.high[channels])


def torch_dtype(name: str) -> torch.dtype:
    """The torch dtype that stores a Program's dtype."""
    return torch.from_numpy(np.zeros(0, STORAGE[name])).dtype
