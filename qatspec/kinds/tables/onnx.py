"""Tables in standard ONNX ops: Gather by the integer."""

from __future__ import annotations

import numpy as np

from qatspec.ir import RANGE, STORAGE, Op
from qatspec.kinds.emitter import Emitter
from qatspec.kinds.tables.segments import entries


def lut(emit: Emitter, op: Op) -> str:
    graph, lowest = emit.graph, RANGE[emit.dtype(op.inputs[0])][0]
    index = graph.cast(emit.x(op), np.int32, f"{op.output}.x")
    index = graph.node(
        "Sub", [index, graph.const("lowest", lowest, np.int32)], f"{op.output}.index"
    )
    table = graph.const(op.inputs[1], entries(op, emit.array), STORAGE[op.attrs["dtype"]])
    return graph.node("Gather", [table, index], op.output)


def exp_below_max(emit: Emitter, op: Op) -> str:
    graph = emit.graph
    x = graph.cast(emit.x(op), np.int32, f"{op.output}.x")
    below = graph.node("Sub", [_largest(emit, op, x), x], f"{op.output}.below")
    table = graph.const(op.inputs[1], entries(op, emit.array), STORAGE[op.attrs["dtype"]])
    return graph.node("Gather", [table, below], op.output)


def _largest(emit: Emitter, op: Op, x: str) -> str:
    """The maximum of an int32 along the op's axis, kept as a dim of 1."""
    axes, name = [op.attrs["axis"]], f"{op.output}.most"
    if emit.opset >= 18:  # the axes are an input from there on
        return emit.graph.node(
            "ReduceMax", [x, emit.graph.const(f"{name}.axes", axes, np.int64)], name
        )
    return emit.graph.node("ReduceMax", [x], name, axes=axes)
