"""Norms in standard ONNX ops: roots and their quotients are int64, where no float is exact."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from qatspec.ir import Op
from qatspec.kinds.emitter import Emitter


def standardize(emit: Emitter, op: Op) -> str:
    graph, a = emit.graph, op.attrs
    axes = graph.const(f"{op.output}.axes", list(a["axes"]), np.int64)
    count = prod(emit.shape(op.inputs[0])[axis - 1] for axis in a["axes"])

    def const(value: int) -> str:
        return graph.const("c", value, np.int64)

    def node(kind: str, *inputs: str, **attrs: Any) -> str:
        return graph.node(kind, list(inputs), f"{op.output}.{kind.lower()}", **attrs)

    def as_int64(condition: str) -> str:
        return graph.cast(condition, np.int64, f"{op.output}.one")

    def square(r: str) -> str:
        return node("Mul", r, r)

    x = graph.cast(emit.x(op), np.int64, f"{op.output}.x")
    total = node("ReduceSum", x, axes, keepdims=1)
    squares = node("Mul", node("ReduceSum", square(x), axes, keepdims=1), const(count))
    variance = node("Sub", squares, square(total))
    grown = node("Mul", node("Add", variance, const(a["epsilon"])), const(4 ** a["root_bits"]))
    # float64's root of an integer below 2^62 is off by one at most
    root = node("Sqrt", graph.cast(grown, np.float64, f"{op.output}.double"))
    root = graph.cast(node("Floor", root), np.int64, f"{op.output}.root")
    root = node("Sub", root, as_int64(node("Greater", square(root), grown)))
    next_root = node("Add", root, const(1))
    root = node("Add", root, as_int64(node("LessOrEqual", square(next_root), grown)))
    root = node("Max", root, const(1))
    away = node("Sub", node("Mul", x, const(count)), total)
    unit = const(1 << (a["bits"] + a["root_bits"] + 1))
    above, below = node("Add", node("Mul", away, unit), root), node("Mul", root, const(2))
    quotient = node("Div", above, below)  # towards zero: floor is one less where a rest is negative
    rest = node("Sub", above, node("Mul", quotient, below))
    floor = node("Sub", quotient, as_int64(node("Less", rest, const(0))))
    return graph.cast(floor, np.int32, op.output)
