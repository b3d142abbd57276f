"""Reductions in standard ONNX ops."""

from __future__ import annotations

from typing import Any

import numpy as np

from qatspec.ir import Op
from qatspec.kinds.attributes import BYTES
from qatspec.kinds.emitter import Emitter


def reduce_sum(emit: Emitter, op: Op) -> str:
    x = emit.graph.cast(emit.x(op), np.int32, f"{op.output}.x")
    axes = emit.graph.const(f"{op.output}.axes", list(op.attrs["axes"]), np.int64)
    return emit.graph.node("ReduceSum", [x, axes], op.output, keepdims=int(op.attrs["keepdim"]))


def reduce_max(emit: Emitter, op: Op) -> str:
    """From opset 18 on the axes are an input."""
    narrow = emit.dtype(op.inputs[0]) != "int16"
    name, axes = op.output if narrow else f"{op.output}.max", list(op.attrs["axes"])
    attrs: dict[str, Any] = {"keepdims": int(op.attrs["keepdim"])}
    more = []
    if emit.opset >= 18:
        more = [emit.graph.const(f"{op.output}.axes", axes, np.int64)]
    else:
        attrs["axes"] = axes

    def write(x: str) -> str:
        return emit.graph.node("ReduceMax", [x, *more], name, **attrs)

    return emit.through(op, BYTES, np.int32, write)


def argmax(emit: Emitter, op: Op) -> str:
    x = emit.graph.cast(emit.x(op), np.int32, f"{op.output}.x")
    attrs = {"axis": op.attrs["axis"], "keepdims": int(op.attrs["keepdim"])}
    return emit.graph.cast(
        emit.graph.node("ArgMax", [x], f"{op.output}.place", **attrs), np.int32, op.output
    )
