"""Ops over what the input itself holds (`qatspec.program.statistics`) in standard ONNX ops.

Products are MatMulInteger, or double where int16 needs it; quotients are double below 2^53, whose
floor is exact; roots and their quotients are int64, where no float is exact.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np

from qatspec.onnx.emitter import Emitter
from qatspec.program import STORAGE, Op


def _matmul(emit: Emitter, op: Op) -> str:
    w, names = emit.w, [emit.x(op, i) for i in (0, 1)]
    if all(emit.dtype(name) != "int16" for name in op.inputs):
        return w.node("MatMulInteger", names, op.output)
    wide = [w.cast(name, np.float64, f"{op.output}.wide") for name in names]
    return w.cast(w.node("MatMul", wide, f"{op.output}.product"), np.int32, op.output)


def _largest(emit: Emitter, op: Op, x: str) -> str:
    """The maximum of an int32 along the op's axis, kept as a dim of 1."""
    axes, name = [op.attrs["axis"]], f"{op.output}.most"
    if emit.opset >= 18:  # the axes are an input from there on
        return emit.w.node("ReduceMax", [x, emit.w.const(f"{name}.axes", axes, np.int64)], name)
    return emit.w.node("ReduceMax", [x], name, axes=axes)


def _exp_below_max(emit: Emitter, op: Op) -> str:
    w = emit.w
    x = w.cast(emit.x(op), np.int32, f"{op.output}.x")
    below = w.node("Sub", [_largest(emit, op, x), x], f"{op.output}.below")
    table = w.const(op.inputs[1], emit.array(op, 1), STORAGE[op.attrs["dtype"]])
    return w.node("Gather", [table, below], op.output)


def _divide(emit: Emitter, op: Op) -> str:
    """As the executor divides; what is divided by 0 is put in its place behind the division."""
    w, a = emit.w, op.attrs

    def const(value: float) -> str:
        return w.const("c", value, np.float64)

    def node(kind: str, *inputs: str) -> str:
        return w.node(kind, list(inputs), f"{op.output}.{kind.lower()}")

    x, y = (w.cast(emit.x(op, i), np.float64, f"{op.output}.{i}") for i in (0, 1))
    rounded = node(
        "Div", node("Mul", x, const(a["multiplier"])), node("Mul", y, const(1 << a["shift"]))
    )
    if a["rounding"] == "half_up":
        rounded = node("Add", rounded, const(0.5))
    rounded = node("Round" if a["rounding"] == "half_even" else "Floor", rounded)
    endless = node("Mul", node("Sign", x), const(2.0**31)) if a["multiplier"] else const(0)
    rounded = node("Where", node("Equal", y, const(0)), endless, rounded)
    rounded = node("Clip", rounded, const(a["low"]), const(a["high"]))
    return w.cast(rounded, STORAGE[a["dtype"]], op.output)


def _standardize(emit: Emitter, op: Op) -> str:
    w, a = emit.w, op.attrs
    axes = w.const(f"{op.output}.axes", list(a["axes"]), np.int64)
    count = prod(emit.shape(op.inputs[0])[axis - 1] for axis in a["axes"])

    def const(value: int) -> str:
        return w.const("c", value, np.int64)

    def node(kind: str, *inputs: str, **attrs: Any) -> str:
        return w.node(kind, list(inputs), f"{op.output}.{kind.lower()}", **attrs)

    def whole(condition: str) -> str:
        return w.cast(condition, np.int64, f"{op.output}.one")

    def square(r: str) -> str:
        return node("Mul", r, r)

    x = w.cast(emit.x(op), np.int64, f"{op.output}.x")
    total = node("ReduceSum", x, axes, keepdims=1)
    squares = node("Mul", node("ReduceSum", square(x), axes, keepdims=1), const(count))
    variance = node("Sub", squares, square(total))
    grown = node("Mul", node("Add", variance, const(a["epsilon"])), const(4 ** a["root_bits"]))
    # float64's root of an integer below 2^62 is off by one at most
    root = node("Sqrt", w.cast(grown, np.float64, f"{op.output}.double"))
    root = w.cast(node("Floor", root), np.int64, f"{op.output}.root")
    root = node("Sub", root, whole(node("Greater", square(root), grown)))
    next_root = node("Add", root, const(1))
    root = node("Add", root, whole(node("LessOrEqual", square(next_root), grown)))
    root = node("Max", root, const(1))
    away = node("Sub", node("Mul", x, const(count)), total)
    unit = const(1 << (a["bits"] + a["root_bits"] + 1))
    above, below = node("Add", node("Mul", away, unit), root), node("Mul", root, const(2))
    quotient = node("Div", above, below)  # towards zero: floor is one less where a rest is negative
    rest = node("Sub", above, node("Mul", quotient, below))
    floor = node("Sub", quotient, whole(node("Less", rest, const(0))))
    return w.cast(floor, np.int32, op.output)


def _affine(emit: Emitter, op: Op) -> str:
    w, rank = emit.w, len(emit.shape(op.inputs[0])) + 1
    along = [-1 if d == op.attrs["axis"] else 1 for d in range(1, rank)]
    x = w.cast(emit.x(op), np.int32, f"{op.output}.x")
    weight, bias = (
        w.const(op.inputs[i], emit.array(op, i).reshape(along), np.int32) for i in (1, 2)
    )
    return w.node("Add", [w.node("Mul", [x, weight], f"{op.output}.scaled"), bias], op.output)


def _argmax(emit: Emitter, op: Op) -> str:
    x = emit.w.cast(emit.x(op), np.int32, f"{op.output}.x")
    attrs = {"axis": op.attrs["axis"], "keepdims": int(op.attrs["keepdim"])}
    return emit.w.cast(
        emit.w.node("ArgMax", [x], f"{op.output}.place", **attrs), np.int32, op.output
    )


EMIT: dict[str, Callable[[Emitter, Op], str]] = {
    "matmul": _matmul,
    "exp_below_max": _exp_below_max,
    "divide": _divide,
    "standardize": _standardize,
    "affine": _affine,
    "argmax": _argmax,
}
