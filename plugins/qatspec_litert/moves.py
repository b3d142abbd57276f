"""Ops that move integers."""

from __future__ import annotations

from dataclasses import replace
from math import prod

import numpy as np

from qatspec.api import Op
from qatspec_litert.writer import NotHeldError, Sums, Writer, file_axis, file_shape

_INT32 = 2  # TensorType.INT32 of the schema


def concat(writer: Writer, op: Op) -> None:
    """Of tensors on one scale, or of sums, which are joined when they are rounded."""
    if all(name in writer.sums for name in op.inputs):
        writer.sums[op.output] = Sums(op)
        return
    tensors = [writer.small(name) for name in op.inputs]
    scales = {float(writer.scale(name)) for name in (*op.inputs, op.output)}
    if len(scales) > 1:
        raise NotHeldError("it joins tensors of different scales")
    writer.tensors[op.output] = joined(writer, op, tensors)


def joined(writer: Writer, op: Op, tensors: list[int]) -> int:
    """Tensors of one grid, joined as `op` joins them."""
    axis = file_axis(op.attrs["axis"], len(writer.shape(op.output)))
    made = writer.like(tensors[0], file_shape(writer.shape(op.output)), "joined")
    return writer.file.op("CONCATENATION", tensors, made, axis=axis)


def move(writer: Writer, op: Op) -> None:
    """A reshape, transpose or slice of a tensor, or of sums, which move when they are rounded."""
    (x,) = op.inputs
    if x in writer.sums:
        known = writer.sums[x]
        writer.sums[op.output] = replace(known, moves=(*known.moves, op))
        return
    writer.tensors[op.output] = moved(writer, op, writer.small(x))


def moved(writer: Writer, op: Op, tensor: int) -> int:
    """The tensor as `op` moves its operand."""
    return _MOVES[op.kind](writer, op, tensor, writer.shape(op.inputs[0]))


def moved_axis(writer: Writer, op: Op, axis: int) -> int | None:
    """Where `op` has the dim `axis` of its operand, both counted with the batch; None: nowhere."""
    before, after = ((1, *writer.shape(name)) for name in (op.inputs[0], op.output))
    if op.kind == "transpose":
        return list(op.attrs["perm"]).index(axis)
    if op.kind == "slice":
        return axis if op.attrs["axis"] != axis else None
    for moved in range(1, len(after)):
        if after[moved] == before[axis] and prod(after[:moved]) == prod(before[:axis]):
            return moved
    return None


def _reshape(writer: Writer, op: Op, tensor: int, before: tuple[int, ...]) -> int:
    return writer.moved(tensor, before, writer.shape(op.output), op.output)


def _transpose(writer: Writer, op: Op, tensor: int, before: tuple[int, ...]) -> int:
    """The Program's permutation between the two layouts."""
    if len(before) != 3:
        return writer.permuted(tensor, op.attrs["perm"], op.output)
    held = [0, *sorted(range(1, 4), key=lambda dim: file_axis(dim, 3))]  # file dim -> Program dim
    order = [held.index(op.attrs["perm"][dim]) for dim in held]
    return writer.permuted(tensor, order, op.output)


def _slice(writer: Writer, op: Op, tensor: int, before: tuple[int, ...]) -> int:
    a, axis = op.attrs, file_axis(op.attrs["axis"], len(before))
    shape = writer.shape_of(tensor)
    begin, end, step = np.zeros(len(shape), int), np.array(shape), np.ones(len(shape), int)
    begin[axis], end[axis], step[axis] = a["start"], a["stop"], a["step"]
    names = [writer.ints(f"{op.output}.cut", array) for array in (begin, end, step)]
    made = writer.like(tensor, file_shape(writer.shape(op.output)), "cut")
    return writer.file.op("STRIDED_SLICE", [tensor, *names], made)


_MOVES = {"reshape": _reshape, "transpose": _transpose, "slice": _slice}


def argmax(writer: Writer, op: Op) -> None:
    """The first place of the largest integer, an int32."""
    (x,) = op.inputs
    shape, axis = writer.shape(x), op.attrs["axis"]
    tensor = writer.in_order(writer.small(x), shape, op.output)
    kept = [size for dim, size in enumerate((1, *shape)) if dim != axis]
    axis_input = writer.ints(f"{op.output}.axis", axis)
    made = writer.file.tensor(f"{op.output}.place", kept, "int32")
    made = writer.file.op("ARG_MAX", [tensor, axis_input], made, outputType=_INT32)
    out = writer.shape(op.output)
    writer.tensors[op.output] = writer.in_layout(
        writer.reshaped(made, (1, *out), op.output), out, op.output
    )


def reduce_max(writer: Writer, op: Op) -> None:
    (x,) = op.inputs
    shape, axes = writer.shape(x), op.attrs["axes"]
    tensor = writer.small(x)
    kept = tuple(1 if i + 1 in axes else size for i, size in enumerate(shape))
    places = writer.ints(f"{op.output}.axes", sorted(file_axis(a, len(shape)) for a in axes))
    sizes = [
        1 if i in [file_axis(a, len(shape)) for a in axes] else size
        for i, size in enumerate(writer.shape_of(tensor))
    ]
    made = writer.like(tensor, sizes, "max")
    made = writer.file.op("REDUCE_MAX", [tensor, places], made, keepDims=True)
    writer.tensors[op.output] = writer.moved(made, kept, writer.shape(op.output), op.output)
