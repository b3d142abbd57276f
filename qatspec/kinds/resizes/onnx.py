"""Resizes in standard ONNX ops: Gather by rows and by columns."""

from __future__ import annotations

import numpy as np

from qatspec.ir import Op
from qatspec.kinds.emitter import Emitter
from qatspec.kinds.resizes.taps import bilinear_taps, nearest_index


def _gather(emit: Emitter, x: str, index: np.ndarray, axis: int, name: str) -> str:
    return emit.graph.node(
        "Gather", [x, emit.graph.const(f"{name}.index", index, np.int64)], name, axis=axis
    )


def nearest(emit: Emitter, op: Op) -> str:
    x = emit.x(op)
    sizes = zip((2, 3), emit.shape(op.inputs[0])[1:], op.attrs["size"], strict=True)
    for axis, size, out in sizes:
        name = op.output if axis == 3 else f"{op.output}.rows"
        x = _gather(emit, x, nearest_index(size, out), axis, name)
    return x


def bilinear(emit: Emitter, op: Op) -> str:
    a, graph = op.attrs, emit.graph
    x = graph.cast(emit.x(op), np.int32, f"{op.output}.x")
    sizes = zip((2, 3), emit.shape(op.inputs[0])[1:], a["size"], strict=True)
    for axis, size, out in sizes:
        low, high, weight = bilinear_taps(size, out, a["align_corners"], a["bits"])
        sides = []
        for index, factor in ((low, (1 << a["bits"]) - weight), (high, weight)):
            shaped = factor.reshape((-1, 1) if axis == 2 else (1, -1))
            part = _gather(emit, x, index, axis, f"{op.output}.tap")
            scale = graph.const(f"{op.output}.weight", shaped, np.int32)
            sides.append(graph.node("Mul", [part, scale], f"{op.output}.mul"))
        x = graph.node("Add", sides, op.output if axis == 3 else f"{op.output}.rows")
    return x
