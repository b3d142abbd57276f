"""Sums of products in onnxruntime's 8-bit kernels: 16-bit operands and weights go in two parts."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from qatspec.ir import Op
from qatspec.kinds.emitter import Emitter


def _halves(emit: Emitter, op: Op) -> list[tuple[str, int]]:
    """The operand as 8-bit tensors with their weights: x = hi * 256 + lo for int16."""
    x = emit.x(op)
    if emit.dtype(op.inputs[0]) != "int16":
        return [(x, 1)]
    graph = emit.graph
    wide = graph.cast(x, np.int32, f"{op.output}.x")
    # lo = x mod 256 in [0, 255] (integer Mod takes the divisor's sign), hi = (x - lo) / 256 exact
    lo = graph.node("Mod", [wide, graph.const("c256", 256, np.int32)], f"{op.output}.mod")
    rest = graph.node("Sub", [wide, lo], f"{op.output}.rest")
    hi = graph.node("Div", [rest, graph.const("c256", 256, np.int32)], f"{op.output}.div")
    return [
        (graph.cast(hi, np.int8, f"{op.output}.hi"), 256),
        (graph.cast(lo, np.uint8, f"{op.output}.lo"), 1),
    ]


def _split_weight(weight: np.ndarray) -> list[tuple[np.ndarray, int]]:
    """An int16 weight as int8 halves: w = hi * 256 + lo, lo in [-128, 127]."""
    if weight.dtype == np.int8:
        return [(weight, 1)]
    lo = ((weight.astype(np.int64) + 128) % 256 - 128).astype(np.int8)
    hi = (weight.astype(np.int64) - lo) // 256
    if hi.max() > 127:  # 32640 and above: hi would be 128
        half = hi // 2
        parts = [(half, 256), (hi - half, 256), (lo.astype(np.int64), 1)]
    else:
        parts = [(hi, 256), (lo.astype(np.int64), 1)]
    return [(part.astype(np.int8), scale) for part, scale in parts]


def add_products(
    emit: Emitter,
    op: Op,
    weight: np.ndarray,
    write: Callable[[str, str, str], str],
    bias_shape: tuple[int, ...],
    *,
    shared: bool = True,
) -> str:
    """Sum over the 8-bit parts of operand and weight, plus the bias; int32 throughout: wrapped
    partial sums of the parts still end at the proven result. shared: equal weights are written
    once."""
    graph, total = emit.graph, ""
    has_bias = len(op.inputs) == 3
    parts = [(x, a * b, part) for x, a in _halves(emit, op) for part, b in _split_weight(weight)]
    for i, (x, scale, part) in enumerate(parts):
        alone = len(parts) == 1 and not has_bias
        name = f"{op.inputs[1]}" if len(parts) == 1 else f"{op.inputs[1]}.{i}"
        name = graph.const(name, part, np.int8, shared=shared)
        y = write(x, name, op.output if alone else f"{op.output}.acc")
        if scale != 1:
            y = graph.node(
                "Mul", [y, graph.const(f"c{scale}", scale, np.int32)], f"{op.output}.scaled"
            )
        total = y if not total else graph.node("Add", [total, y], f"{op.output}.sum")
    if has_bias:
        bias = graph.const(op.inputs[2], emit.array(op, 2).reshape(bias_shape), np.int32)
        total = graph.node("Add", [total, bias], op.output)
    return total
