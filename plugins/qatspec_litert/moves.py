"""Ops that move integers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from qatspec.api import Op
from qatspec_litert.writer import NotHeldError, Writer, file_axis


def concat(writer: Writer, op: Op) -> None:
    tensors = [writer.small(name) for name in op.inputs]
    scales = {float(writer.scale(name)) for name in (*op.inputs, op.output)}
    if len(scales) > 1:
        raise NotHeldError("it joins tensors of different scales")
    axis = file_axis(op.attrs["axis"], len(writer.shape(op.output)))
    made = writer.result(op.output)
    writer.tensors[op.output] = writer.file.op("CONCATENATION", tensors, made, axis=axis)


def reshape(writer: Writer, op: Op) -> None:
    """Of a tensor, or of sums, which are reshaped when they are rounded."""
    (x,) = op.inputs
    if x in writer.sums:
        known = writer.sums[x]
        writer.sums[op.output] = replace(known, moves=(*known.moves, op))
        return
    before, after = writer.shape(x), writer.shape(op.output)
    writer.tensors[op.output] = writer.moved(writer.small(x), before, after, op.output)


def transpose(writer: Writer, op: Op) -> None:
    """The Program's permutation between the two layouts."""
    (x,) = op.inputs
    before, after = writer.shape(x), writer.shape(op.output)
    tensor = writer.small(x)
    if len(before) != 3:
        writer.tensors[op.output] = writer.permuted(tensor, op.attrs["perm"], op.output)
        return
    held = [0, *sorted(range(1, 4), key=lambda dim: file_axis(dim, 3))]  # file dim -> Program dim
    order = [held.index(op.attrs["perm"][dim]) for dim in held]
    assert len(after) == 3
    writer.tensors[op.output] = writer.permuted(tensor, order, op.output)


def slice_(writer: Writer, op: Op) -> None:
    (x,), a = op.inputs, op.attrs
    tensor, axis = writer.small(x), file_axis(a["axis"], len(writer.shape(x)))
    shape = writer.shape_of(tensor)
    begin, end, step = np.zeros(len(shape), int), np.array(shape), np.ones(len(shape), int)
    begin[axis], end[axis], step[axis] = a["start"], a["stop"], a["step"]
    names = [writer.ints(f"{op.output}.cut", array) for array in (begin, end, step)]
    made = writer.result(op.output)
    writer.tensors[op.output] = writer.file.op("STRIDED_SLICE", [tensor, *names], made)


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
