"""Requantization as double arithmetic below 2^53: Cast, Mul by m / 2^s, Add 1/2, Floor, Clip, Cast,
each step exact; the forms double_high and float32 step by step as they are defined."""

from __future__ import annotations

import numpy as np

from qatspec.ir import STORAGE, Op
from qatspec.kinds.emitter import Emitter
from qatspec.kinds.requantization.forms import form_of


def requant(emit: Emitter, op: Op) -> str:
    """A requantization of any form."""
    write = {"single": _single, "double_high": _double_high, "float32": _float32}[form_of(op)]
    return write(emit, op)


def _single(emit: Emitter, op: Op) -> str:
    graph, a, terms = emit.graph, op.attrs, len(op.inputs) // 2
    rank = len(emit.shape(op.inputs[0])) + 1
    unit = np.exp2(-emit.array(op, 2 * terms).astype(np.float64))
    total = ""
    for i in range(terms):
        factor = emit.array(op, terms + i).astype(np.float64) * unit
        if factor.size > 1:
            factor = factor.reshape([-1 if d == a["axis"] else 1 for d in range(1, rank)])
        x = graph.cast(emit.x(op, i), np.float64, f"{op.output}.x")
        x = graph.node(
            "Mul", [x, graph.const(f"{op.output}.m", factor, np.float64)], f"{op.output}.mul"
        )
        total = x if not total else graph.node("Add", [total, x], f"{op.output}.add")
    if a["rounding"] == "half_up":
        half = graph.const("half", 0.5, np.float64)
        total = graph.node("Add", [total, half], f"{op.output}.half")
    rounding = "Round" if a["rounding"] == "half_even" else "Floor"
    total = graph.node(rounding, [total], f"{op.output}.round")
    return _clipped(emit, op, total, np.float64)


def _clipped(emit: Emitter, op: Op, rounded: str, dtype: type) -> str:
    """The integers of a float tensor, within the bounds, on the result's dtype."""
    graph, a = emit.graph, op.attrs
    bounds = [graph.const("bound", dtype(a[key]), dtype) for key in ("low", "high")]
    clipped = graph.node("Clip", [rounded, *bounds], f"{op.output}.clip")
    return graph.cast(clipped, STORAGE[a["dtype"]], op.output)


def _aligned(emit: Emitter, op: Op, constant: np.ndarray) -> np.ndarray:
    """A constant of a channel each, along the op's axis."""
    rank = len(emit.shape(op.inputs[0])) + 1
    shape = [-1 if d == op.attrs["axis"] else 1 for d in range(1, rank)]
    return constant.reshape(shape) if constant.size > 1 else constant


def _float32(emit: Emitter, op: Op) -> str:
    """Cast and Mul in float32, Round to even, Clip."""
    graph, m, shift = emit.graph, emit.array(op, 1), emit.array(op, 2)
    factor = _aligned(emit, op, np.ldexp(m.astype(np.float64), -shift.astype(np.int64)))
    x = graph.cast(emit.x(op), np.float32, f"{op.output}.x")
    x = graph.node(
        "Mul", [x, graph.const(f"{op.output}.m", factor, np.float32)], f"{op.output}.mul"
    )
    return _clipped(emit, op, graph.node("Round", [x], f"{op.output}.round"), np.float32)


def _double_high(emit: Emitter, op: Op) -> str:
    """Doubling high multiplications in int64, whose Div truncates, and right shifts that round half
    away from zero in double, where every step is exact."""
    graph, a, terms = emit.graph, op.attrs, len(op.inputs) // 2
    shift = emit.array(op, 2 * terms)
    total = ""
    for i in range(terms):
        m = emit.array(op, terms + i)
        of_term = shift if terms == 1 else np.array([a["term_shifts"][i]])
        x = graph.cast(emit.x(op, i), np.int64, f"{op.output}.x")
        x = _scaled(emit, op, x, m, of_term, a.get("lift", 0))
        total = x if not total else graph.node("Add", [total, x], f"{op.output}.add")
    if terms > 1:
        x = graph.cast(total, np.int64, f"{op.output}.sum")
        total = _scaled(emit, op, x, np.array([a["total"]]), shift, 0)
    return _clipped(emit, op, total, np.float64)


def _scaled(emit: Emitter, op: Op, x: str, m: np.ndarray, shift: np.ndarray, lift: int) -> str:
    """An int64 times m / 2^(31 + shift), as double."""
    graph, name = emit.graph, op.output

    def const(suffix: str, value: object, dtype: type) -> str:
        return graph.const(f"{name}.{suffix}", value, dtype)

    left = np.int64(1) << (lift + np.maximum(-shift, 0))
    product = graph.node(
        "Mul", [x, const("m", _aligned(emit, op, left * m), np.int64)], f"{name}.mul"
    )
    below = graph.node("Less", [product, const("zero", 0, np.int64)], f"{name}.below")
    nudges = [const("nudge", v, np.int64) for v in (1 - (1 << 30), 1 << 30)]
    nudge = graph.node("Where", [below, *nudges], f"{name}.nudge")
    product = graph.node("Add", [product, nudge], f"{name}.nudged")
    high = graph.node("Div", [product, const("doubled", 1 << 31, np.int64)], f"{name}.high")
    real = graph.cast(high, np.float64, f"{name}.real")
    unit = np.exp2(-np.maximum(shift, 0).astype(np.float64))
    factor = const("unit", _aligned(emit, op, unit), np.float64)
    real = graph.node("Mul", [real, factor], f"{name}.shifted")
    size = graph.node(
        "Add",
        [graph.node("Abs", [real], f"{name}.abs"), graph.const("half", 0.5, np.float64)],
        f"{name}.half",
    )
    size = graph.node("Floor", [size], f"{name}.floor")
    return graph.node("Mul", [size, graph.node("Sign", [real], f"{name}.sign")], f"{name}.away")
