"""Regions: which part of its inputs an op needs for a part of its output.

Every value is seen as (channels, rows, columns); a Box is a range of channels and of rows, columns
are never split. What cannot be split in a direction asks for all of it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod

from qatspec.backend.layers import Layer
from qatspec.backend.rows import along_columns, divisible, local_rows, rows_read
from qatspec.ir import Op
from qatspec.kinds import Trait, has
from qatspec.program import Program


@dataclass(frozen=True, slots=True)
class Box:
    """Channels c0..c1 and rows h0..h1 (ends exclusive)."""

    c0: int
    c1: int
    h0: int
    h1: int

    @property
    def channels(self) -> int:
        return self.c1 - self.c0

    @property
    def rows(self) -> int:
        return self.h1 - self.h0

    def contains(self, other: Box) -> bool:
        """Return whether every channel and row of `other` is one of this Box."""
        return self.union(other) == self

    def union(self, other: Box) -> Box:
        """The smallest Box that holds both."""
        return Box(
            min(self.c0, other.c0),
            max(self.c1, other.c1),
            min(self.h0, other.h0),
            max(self.h1, other.h1),
        )


def view(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """A shape (without the batch) as (channels, rows, columns)."""
    if not shape:
        return 1, 1, 1
    return shape[0], prod(shape[1:-1]), shape[-1] if len(shape) > 1 else 1


def full_box(shape: tuple[int, ...]) -> Box:
    """The box that covers a whole value of `shape` (without the batch)."""
    channels, rows, _ = view(shape)
    return Box(0, channels, 0, rows)


def splits(layer: Layer, program: Program) -> tuple[bool, int | None]:
    """How a layer's output can be split: (by rows?, step of channels or None)."""
    rows, step = True, 1
    for op in layer.ops:
        by_rows, by_channels = _op_splits(op, program)
        rows = rows and by_rows
        step = max(step, by_channels) if step and by_channels else 0
    return rows, step or None


def _op_splits(op: Op, program: Program) -> tuple[bool, int]:
    """(splits by rows, step of channels or 0) of one op."""
    return divisible(op, program), _channel_step(op, program)


def _channel_step(op: Op, program: Program) -> int:
    """The channels of the output can be cut at multiples of this number; 0: they cannot be cut."""
    shapes = [program.values[n].shape for n in op.inputs if n not in program.consts]
    out = program.values[op.output].shape
    image = len(out) == 3
    if _convolves(op):
        per_out, _ = _per_group(op, program)
        return 1 if op.attrs["groups"] == 1 else per_out
    if has(op, Trait.WINDOWED):
        return 1
    if op.kind == "linear":
        return int(len(out) == 1)
    if op.kind == "matmul":
        return int(divisible(op, program))
    if has(op, Trait.POINTWISE):
        axis_is_channels = op.kind != "requant" or op.attrs["axis"] == 1
        ranked = len(out) in (1, 3) and all(len(s) == len(out) for s in shapes)
        return int(ranked and (axis_is_channels or divisible(op, program)))
    if op.kind == "slice":
        return int(image and op.attrs["axis"] > 1)
    if has(op, Trait.RESIZES) or op.kind == "pad":
        return 1
    if along_columns(op):
        return int(image)
    if op.kind == "transpose":
        return int(image and op.attrs["perm"] == (0, 1, 3, 2))
    if has(op, Trait.REDUCES):
        return int(tuple(sorted(op.attrs["axes"])) == (2, 3))
    return 0


def _convolves(op: Op) -> bool:
    """Return whether the op has a weight of whole groups: a convolution, transposed or not."""
    return has(op, Trait.WEIGHTED) and has(op, Trait.IMAGES)


def _per_group(op: Op, program: Program) -> tuple[int, int]:
    """(output channels, input channels) of one group of a convolution."""
    first, second = program.values[op.inputs[1]].shape[:2]
    if has(op, Trait.INPUTS_FIRST):
        return second, first // op.attrs["groups"]
    return first // op.attrs["groups"], second


def needs(op: Op, box: Box, program: Program) -> dict[str, Box]:
    """Activation input -> the Box of it that `box` of the output is computed from."""
    names = [n for n in op.inputs if n not in program.consts]
    return {name: _need(op, name, box, program) for name in names}


def _need(op: Op, name: str, box: Box, program: Program) -> Box:
    shape = program.values[name].shape
    out = program.values[op.output].shape
    full = full_box(shape)
    by_rows, step = _op_splits(op, program)
    h0, h1 = full.h0, full.h1
    if by_rows:
        h0, h1 = (int(row) for row in rows_read(op, name, program, box.h0, box.h1))
    c0, c1 = (box.c0, box.c1) if step else (full.c0, full.c1)
    if _convolves(op):
        per_out, per_in = _per_group(op, program)
        grouped = op.attrs["groups"] > 1
        c0, c1 = (
            (box.c0 // per_out * per_in, -(-box.c1 // per_out) * per_in)
            if grouped
            else (0, full.c1)
        )
    if op.kind == "linear":
        c0, c1 = full.c0, full.c1
    if has(op, Trait.POINTWISE) and len(shape) == len(out):  # a dim of 1 is broadcast
        c0, c1 = (c0, c1) if full.c1 > 1 else (0, 1)
    return Box(c0, c1, h0, h1)


def layer_needs(layer: Layer, box: Box, program: Program) -> dict[str, Box]:
    """For every value that the layer touches, from outside or between its ops: the Box of it that
    `box` of the layer's output rests on."""
    wanted = {layer.output: box}
    for op in reversed(layer.ops):
        for name, need in needs(op, wanted[op.output], program).items():
            wanted[name] = wanted[name].union(need) if name in wanted else need
    return wanted


def localise(op: Op, box: Box, program: Program) -> tuple[Op, int]:
    """`op` with the attributes that give `box` from inputs cut to what it needs, and how many rows
    its result has before those of `box`; further rows may follow them."""
    attrs, skip = dict(op.attrs), 0
    if divisible(op, program):
        attrs, skip = local_rows(op, box.h0, box.h1, program)
    if _convolves(op) and op.attrs["groups"] > 1:
        attrs["groups"] = box.channels // _per_group(op, program)[0]
    return replace(op, attrs=attrs), skip


def const_range(op: Op, name: str, box: Box, program: Program) -> tuple[int, int]:
    """The range of constant `name` that `box` of the output is computed with: along dim 0, or along
    the output channels of a weight whose dim 0 is the input channel."""
    size = program.values[name].shape[0]
    if has(op, Trait.INPUTS_FIRST) and name == op.inputs[1]:
        size = op.attrs["groups"] * program.values[name].shape[1]
    channels = full_box(program.values[op.output].shape).c1
    splits_too = _op_splits(op, program)[1] > 0 and not has(op, Trait.TABLE)
    return (box.c0, box.c1) if splits_too and size == channels else (0, size)
