"""Elementwise arithmetic in standard ONNX ops. Quotients are double below 2^53: floor is exact."""

from __future__ import annotations

import numpy as np

from qatspec.ir import STORAGE, Op
from qatspec.kinds.attributes import BYTES
from qatspec.kinds.emitter import Emitter


def mul(emit: Emitter, op: Op) -> str:
    x, y = (emit.graph.cast(emit.x(op, i), np.int32, f"{op.output}.{i}") for i in (0, 1))
    return emit.graph.node("Mul", [x, y], op.output)


def clamp(emit: Emitter, op: Op) -> str:
    dtype = emit.dtype(op.inputs[0])
    accepted = (*BYTES, "int32")
    wide = STORAGE[dtype] if dtype in accepted else np.int32
    bounds = [emit.graph.const("bound", op.attrs[key], wide) for key in ("low", "high")]
    name = op.output if dtype in accepted else f"{op.output}.clip"
    return emit.through(
        op, accepted, np.int32, lambda x: emit.graph.node("Clip", [x, *bounds], name)
    )


def affine(emit: Emitter, op: Op) -> str:
    graph, rank = emit.graph, len(emit.shape(op.inputs[0])) + 1
    along = [-1 if d == op.attrs["axis"] else 1 for d in range(1, rank)]
    x = graph.cast(emit.x(op), np.int32, f"{op.output}.x")
    weight, bias = (
        graph.const(op.inputs[i], emit.array(op, i).reshape(along), np.int32) for i in (1, 2)
    )
    return graph.node(
        "Add", [graph.node("Mul", [x, weight], f"{op.output}.scaled"), bias], op.output
    )


def divide(emit: Emitter, op: Op) -> str:
    """As the executor divides."""
    graph, a = emit.graph, op.attrs

    def const(value: float) -> str:
        return graph.const("c", value, np.float64)

    def node(kind: str, *inputs: str) -> str:
        return graph.node(kind, list(inputs), f"{op.output}.{kind.lower()}")

    x, y = (graph.cast(emit.x(op, i), np.float64, f"{op.output}.{i}") for i in (0, 1))
    y = node("Where", node("Equal", y, const(0)), const(1), y)
    rounded = node(
        "Div", node("Mul", x, const(a["multiplier"])), node("Mul", y, const(1 << a["shift"]))
    )
    if a["rounding"] == "half_up":
        rounded = node("Add", rounded, const(0.5))
    rounded = node("Round" if a["rounding"] == "half_even" else "Floor", rounded)
    rounded = node("Clip", rounded, const(a["low"]), const(a["high"]))
    return graph.cast(rounded, STORAGE[a["dtype"]], op.output)
