"""Requantization as double arithmetic below 2^53: Cast, Mul by m / 2^s, Add 1/2, Floor, Clip, Cast,
each step exact."""

from __future__ import annotations

import numpy as np

from qatspec.ir import STORAGE, Op
from qatspec.kinds.emitter import Emitter


def requant(emit: Emitter, op: Op) -> str:
    w, a, terms = emit.graph, op.attrs, len(op.inputs) // 2
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
