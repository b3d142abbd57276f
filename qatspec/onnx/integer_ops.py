"""Each kind of integer op in standard ONNX ops: `EMIT[kind](emitter, op) -> result name`.

Requantization is double arithmetic below 2^53 (contracts 17): Cast, Mul by m / 2^s, Add 1/2, Floor,
Clip, Cast, each step exact.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from qatspec.onnx import integer_statistics
from qatspec.onnx.emitter import Emitter
from qatspec.onnx.integer_products import (
    emit_conv,
    emit_conv_transpose,
    emit_linear,
    emit_sum_pool,
)
from qatspec.program import RANGE, STORAGE, Op
from qatspec.program.interp import bilinear_taps, nearest_index

# -- arithmetic of elements -------------------------------------------------------------------


def _mul(emit: Emitter, op: Op) -> str:
    x, y = (emit.w.cast(emit.x(op, i), np.int32, f"{op.output}.{i}") for i in (0, 1))
    return emit.w.node("Mul", [x, y], op.output)


def _requant(emit: Emitter, op: Op) -> str:
    w, a, terms = emit.w, op.attrs, len(op.inputs) // 2
    rank = len(emit.shape(op.inputs[0])) + 1
    unit = np.exp2(-emit.array(op, 2 * terms).astype(np.float64))
    total = ""
    for i in range(terms):
        factor = emit.array(op, terms + i).astype(np.float64) * unit
        if factor.size > 1:
            factor = factor.reshape([-1 if d == a["axis"] else 1 for d in range(1, rank)])
        x = w.cast(emit.x(op, i), np.float64, f"{op.output}.x")
        x = w.node("Mul", [x, w.const(f"{op.output}.m", factor, np.float64)], f"{op.output}.mul")
        total = x if not total else w.node("Add", [total, x], f"{op.output}.add")
    if a["rounding"] == "half_up":
        half = w.const("half", 0.5, np.float64)
        total = w.node("Add", [total, half], f"{op.output}.half")
    rounding = "Round" if a["rounding"] == "half_even" else "Floor"
    total = w.node(rounding, [total], f"{op.output}.round")
    bounds = [w.const("bound", float(a[key]), np.float64) for key in ("low", "high")]
    total = w.node("Clip", [total, *bounds], f"{op.output}.clip")
    return w.cast(total, STORAGE[a["dtype"]], op.output)


def _clamp(emit: Emitter, op: Op) -> str:
    dtype = emit.dtype(op.inputs[0])
    own = ("int8", "int4", "int32")
    wide = STORAGE[dtype] if dtype in own else np.int32
    bounds = [emit.w.const("bound", op.attrs[key], wide) for key in ("low", "high")]
    name = op.output if dtype in own else f"{op.output}.clip"
    return emit.through(op, own, np.int32, lambda x: emit.w.node("Clip", [x, *bounds], name))


# -- pools and reductions ----------------------------------------------------------------------


def _max_pool(emit: Emitter, op: Op) -> str:
    """Padded by hand with the lowest integer: ONNX bounds its own padding by the kernel."""
    a, w = op.attrs, emit.w
    top, left, bottom, right = a["padding"]
    lowest = RANGE[emit.dtype(op.inputs[0])][0]

    def write(x: str) -> str:
        dtype = np.int8 if narrow else np.float32
        if any(a["padding"]):
            pads = w.const(f"{op.output}.pads", [0, 0, top, left, 0, 0, bottom, right], np.int64)
            x = w.node("Pad", [x, pads, w.const("lowest", lowest, dtype)], f"{op.output}.pad")
        return w.node(
            "MaxPool",
            [x],
            op.output if narrow else f"{op.output}.max",
            kernel_shape=list(a["kernel"]),
            strides=list(a["stride"]),
            dilations=list(a["dilation"]),
        )

    narrow = emit.dtype(op.inputs[0]) != "int16"
    return emit.through(op, ("int8", "int4"), np.float32, write)


def _reduce_sum(emit: Emitter, op: Op) -> str:
    x = emit.w.cast(emit.x(op), np.int32, f"{op.output}.x")
    axes = emit.w.const(f"{op.output}.axes", list(op.attrs["axes"]), np.int64)
    return emit.w.node("ReduceSum", [x, axes], op.output, keepdims=int(op.attrs["keepdim"]))


def _reduce_max(emit: Emitter, op: Op) -> str:
    """From opset 18 on the axes are an input."""
    narrow = emit.dtype(op.inputs[0]) != "int16"
    name, axes = op.output if narrow else f"{op.output}.max", list(op.attrs["axes"])
    attrs: dict[str, Any] = {"keepdims": int(op.attrs["keepdim"])}
    more = []
    if emit.opset >= 18:
        more = [emit.w.const(f"{op.output}.axes", axes, np.int64)]
    else:
        attrs["axes"] = axes

    def write(x: str) -> str:
        return emit.w.node("ReduceMax", [x, *more], name, **attrs)

    return emit.through(op, ("int8", "int4"), np.int32, write)


# -- resizes -----------------------------------------------------------------------------------


def _gather(emit: Emitter, x: str, index: np.ndarray, axis: int, name: str) -> str:
    return emit.w.node(
        "Gather", [x, emit.w.const(f"{name}.index", index, np.int64)], name, axis=axis
    )


def _resize_nearest(emit: Emitter, op: Op) -> str:
    x = emit.x(op)
    sizes = zip((2, 3), emit.shape(op.inputs[0])[1:], op.attrs["size"], strict=True)
    for axis, size, out in sizes:
        name = op.output if axis == 3 else f"{op.output}.rows"
        x = _gather(emit, x, nearest_index(size, out), axis, name)
    return x


def _resize_bilinear(emit: Emitter, op: Op) -> str:
    a, w = op.attrs, emit.w
    x = w.cast(emit.x(op), np.int32, f"{op.output}.x")
    sizes = zip((2, 3), emit.shape(op.inputs[0])[1:], a["size"], strict=True)
    for axis, size, out in sizes:
        low, high, weight = bilinear_taps(size, out, a["align_corners"], a["bits"])
        sides = []
        for index, factor in ((low, (1 << a["bits"]) - weight), (high, weight)):
            shaped = factor.reshape((-1, 1) if axis == 2 else (1, -1))
            part = _gather(emit, x, index, axis, f"{op.output}.tap")
            scale = w.const(f"{op.output}.weight", shaped, np.int32)
            sides.append(w.node("Mul", [part, scale], f"{op.output}.mul"))
        x = w.node("Add", sides, op.output if axis == 3 else f"{op.output}.rows")
    return x


# -- moves -------------------------------------------------------------------------------------


def _concat(emit: Emitter, op: Op) -> str:
    names = [emit.x(op, i) for i in range(len(op.inputs))]
    return emit.w.node("Concat", names, op.output, axis=op.attrs["axis"])


def _reshape(emit: Emitter, op: Op) -> str:
    shape = emit.w.const(f"{op.output}.shape", [0, *op.attrs["shape"]], np.int64)
    return emit.w.node("Reshape", [emit.x(op), shape], op.output)


def _transpose(emit: Emitter, op: Op) -> str:
    return emit.w.node("Transpose", [emit.x(op)], op.output, perm=list(op.attrs["perm"]))


def _slice(emit: Emitter, op: Op) -> str:
    a = op.attrs
    names = [
        emit.w.const(f"{op.output}.{key}", [a[key]], np.int64)
        for key in ("start", "stop", "axis", "step")
    ]
    return emit.w.node("Slice", [emit.x(op), *names], op.output)


def _pad(emit: Emitter, op: Op) -> str:
    top, left, bottom, right = op.attrs["padding"]
    dtype = emit.dtype(op.inputs[0])
    narrow = dtype != "int16"
    pads = emit.w.const(f"{op.output}.pads", [0, 0, top, left, 0, 0, bottom, right], np.int64)
    value = emit.w.const("fill", op.attrs["value"], STORAGE[dtype] if narrow else np.int32)
    name = op.output if narrow else f"{op.output}.pad"
    return emit.through(
        op,
        ("int8", "int4", "int32"),
        np.int32,
        lambda x: emit.w.node("Pad", [x, pads, value], name),
    )


def _lut(emit: Emitter, op: Op) -> str:
    w, lowest = emit.w, RANGE[emit.dtype(op.inputs[0])][0]
    index = w.cast(emit.x(op), np.int32, f"{op.output}.x")
    index = w.node("Sub", [index, w.const("lowest", lowest, np.int32)], f"{op.output}.index")
    table = w.const(op.inputs[1], emit.array(op, 1), STORAGE[op.attrs["dtype"]])
    return w.node("Gather", [table, index], op.output)


EMIT: dict[str, Callable[[Emitter, Op], str]] = {
    "conv": emit_conv,
    "conv_transpose": emit_conv_transpose,
    "linear": emit_linear,
    "requant": _requant,
    "mul": _mul,
    "clamp": _clamp,
    "max_pool": _max_pool,
    "sum_pool": emit_sum_pool,
    "reduce_sum": _reduce_sum,
    "reduce_max": _reduce_max,
    "resize_nearest": _resize_nearest,
    "resize_bilinear": _resize_bilinear,
    "concat": _concat,
    "reshape": _reshape,
    "transpose": _transpose,
    "slice": _slice,
    "pad": _pad,
    "lut": _lut,
    **integer_statistics.EMIT,
}
