"""Moves in standard ONNX ops."""

from __future__ import annotations

import numpy as np

from qatspec.ir import STORAGE, Op
from qatspec.kinds.attributes import BYTES
from qatspec.kinds.emitter import Emitter


def concat(emit: Emitter, op: Op) -> str:
    names = [emit.x(op, i) for i in range(len(op.inputs))]
    return emit.graph.node("Concat", names, op.output, axis=op.attrs["axis"])


def reshape(emit: Emitter, op: Op) -> str:
    shape = emit.graph.const(f"{op.output}.shape", [0, *op.attrs["shape"]], np.int64)
    return emit.graph.node("Reshape", [emit.x(op), shape], op.output)


def transpose(emit: Emitter, op: Op) -> str:
    return emit.graph.node("Transpose", [emit.x(op)], op.output, perm=list(op.attrs["perm"]))


def slice_(emit: Emitter, op: Op) -> str:
    a = op.attrs
    names = [
        emit.graph.const(f"{op.output}.{key}", [a[key]], np.int64)
        for key in ("start", "stop", "axis", "step")
    ]
    return emit.graph.node("Slice", [emit.x(op), *names], op.output)


def pad(emit: Emitter, op: Op) -> str:
    top, left, bottom, right = op.attrs["padding"]
    dtype = emit.dtype(op.inputs[0])
    narrow = dtype != "int16"
    pads = emit.graph.const(f"{op.output}.pads", [0, 0, top, left, 0, 0, bottom, right], np.int64)
    value = emit.graph.const("fill", op.attrs["value"], STORAGE[dtype] if narrow else np.int32)
    name = op.output if narrow else f"{op.output}.pad"
    return emit.through(
        op,
        (*BYTES, "int32"),
        np.int32,
        lambda x: emit.graph.node("Pad", [x, pads, value], name),
    )
