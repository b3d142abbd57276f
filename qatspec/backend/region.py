"""Regions: which part of its inputs an op needs for a part of its output.

Every value is seen as (channels, rows, columns); a Box is a range of channels and of rows, columns
are never split. What cannot be split in a direction asks for all of it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod

from qatspec.backend.layers import Layer
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
    shapes = [program.values[n].shape for n in op.inputs if n not in program.consts]
    out = program.values[op.output].shape
    image = len(out) == 3
    if op.kind == "conv":
        weight, groups = program.values[op.inputs[1]].shape, op.attrs["groups"]
        return _reaches(op, weight[2]), 1 if groups == 1 else weight[0] // groups
    if op.kind in ("max_pool", "sum_pool"):
        return True, 1
    if op.kind == "linear":
        return False, int(len(out) == 1)
    if has(op, Trait.POINTWISE):
        if op.kind == "requant" and op.attrs["axis"] != 1 and _per_channel(op, program):
            return False, 0
        ranked = len(out) in (1, 3) and all(len(s) == len(out) for s in shapes)
        return image and ranked, int(ranked)
    if op.kind == "concat":
        return image and op.attrs["axis"] == 1, 0
    if op.kind == "slice":
        return image and op.attrs["axis"] == 1, int(image and op.attrs["axis"] > 1)
    if has(op, Trait.RESIZES) or op.kind == "pad":
        return False, 1
    if has(op, Trait.REDUCES):
        return False, int(tuple(sorted(op.attrs["axes"])) == (2, 3))
    return False, 0


def _reaches(op: Op, kernel: int) -> bool:
    """Every output row of a convolution touches a real input row (its padding is narrower than
    its window), so that no tile is made of padding alone."""
    top, _, bottom, _ = op.attrs["padding"]
    return bool(max(top, bottom) <= (kernel - 1) * op.attrs["dilation"][0])


def _per_channel(op: Op, program: Program) -> bool:
    return any(program.values[n].shape != (1,) for n in op.inputs if n in program.consts)


def needs(op: Op, box: Box, program: Program) -> dict[str, Box]:
    """Activation input -> the Box of it that `box` of the output is computed from."""
    names = [n for n in op.inputs if n not in program.consts]
    return {name: _need(op, name, box, program) for name in names}


def _need(op: Op, name: str, box: Box, program: Program) -> Box:
    shape = program.values[name].shape
    out = program.values[op.output].shape
    full = full_box(shape)
    by_rows, step = _op_splits(op, program)
    h0, h1 = (box.h0, box.h1) if by_rows else (full.h0, full.h1)
    c0, c1 = (box.c0, box.c1) if step else (full.c0, full.c1)
    if has(op, Trait.WINDOWED) and by_rows:
        kernel, stride, dilation = _window(op, program)
        h0 = max(0, box.h0 * stride - op.attrs["padding"][0])
        last = (box.h1 - 1) * stride - op.attrs["padding"][0] + (kernel - 1) * dilation
        h1 = min(full.h1, last + 1)
    if op.kind == "conv":
        weight = program.values[op.inputs[1]].shape
        per_out = weight[0] // op.attrs["groups"]
        grouped = op.attrs["groups"] > 1
        c0, c1 = (
            (box.c0 // per_out * weight[1], -(-box.c1 // per_out) * weight[1])
            if grouped
            else (0, full.c1)
        )
    if op.kind == "linear":
        c0, c1 = full.c0, full.c1
    if op.kind == "mul" and len(shape) == len(out):  # a dim of 1 is broadcast
        c0, c1 = (c0, c1) if full.c1 > 1 else (0, 1)
        h0, h1 = (h0, h1) if full.h1 > 1 else (0, 1)
    return Box(c0, c1, h0, h1)


def _window(op: Op, program: Program) -> tuple[int, int, int]:
    """(kernel, stride, dilation) along the rows."""
    convolves = op.kind == "conv"
    kernel = program.values[op.inputs[1]].shape[2] if convolves else op.attrs["kernel"][0]
    return kernel, op.attrs["stride"][0], op.attrs.get("dilation", (1, 1))[0]


def layer_needs(layer: Layer, box: Box, program: Program) -> dict[str, Box]:
    """For every value that the layer touches, from outside or between its ops: the Box of it that
    `box` of the layer's output rests on."""
    wanted = {layer.output: box}
    for op in reversed(layer.ops):
        for name, need in needs(op, wanted[op.output], program).items():
            wanted[name] = wanted[name].union(need) if name in wanted else need
    return wanted


def localise(op: Op, box: Box, program: Program) -> Op:
    """`op` with the attributes that give exactly `box`, from inputs cut to what it needs."""
    attrs = dict(op.attrs)
    by_rows, _ = _op_splits(op, program)
    if has(op, Trait.WINDOWED) and by_rows:
        kernel, stride, dilation = _window(op, program)
        top, left, _, right = op.attrs["padding"]
        height = program.values[op.inputs[0]].shape[1]
        first = box.h0 * stride - top
        last = (box.h1 - 1) * stride - top + (kernel - 1) * dilation
        attrs["padding"] = (max(0, -first), left, max(0, last + 1 - height), right)
    if op.kind == "conv" and op.attrs["groups"] > 1:
        per_out = program.values[op.inputs[1]].shape[0] // op.attrs["groups"]
        attrs["groups"] = box.channels // per_out
    return replace(op, attrs=attrs)


def const_range(op: Op, name: str, box: Box, program: Program) -> tuple[int, int]:
    """The range along dim 0 of constant `name` that `box` of the output is computed with."""
    size = program.values[name].shape[0]
    channels = full_box(program.values[op.output].shape).c1
    splits_too = _op_splits(op, program)[1] > 0 and op.kind != "lut"
    return (box.c0, box.c1) if splits_too and size == channels else (0, size)
