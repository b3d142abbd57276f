"""Everything but products and tables, with real numbers."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np

from qatspec.export.fast.images import whole_scale
from qatspec.export.real.products import unit_of_sums
from qatspec.export.real.values import Values
from qatspec.ir import RANGE, Op
from qatspec.kinds.resizes.taps import nearest_index

#: What is taken from a number whose floor is wanted, of an integer, before it is rounded.
_BELOW = 0.5 - 2.0**-8


def requant(emit: Values, op: Op) -> None:
    """A sum of terms, rounded."""
    terms, axis, total = len(op.inputs) // 2, op.attrs["axis"], ""
    wanted = _unit_of_result(emit, op)
    powers = np.exp2(-emit.array(op, 2 * terms).astype(np.float64))
    for i, name in enumerate(op.inputs[:terms]):
        unit, own_axis = emit.units[name]
        if unit.size > 1 and own_axis != axis:
            raise AssertionError(f"`{name}` has a scale along another axis than `{op.output}`")
        factor = emit.array(op, terms + i) * powers * wanted
        real = emit.in_unit(name, emit.x(op, i), unit, factor, axis)
        total = emit.graph.node("Add", [total, real], f"{op.output}.sum") if total else real
    _rounded(emit, op, total)


def _rounded(emit: Values, op: Op, real: str) -> None:
    """Keep `real`, a number in units of the result, rounded within the bounds of `op`."""
    unit = _unit_of_result(emit, op)
    if op.attrs["rounding"] == "floor":
        less = emit.graph.const("below", _BELOW * unit[0], np.float32)
        real = emit.graph.node("Sub", [real, less], f"{op.output}.below")
    if emit.is_narrow(op.output):
        emit.keep(op.output, _clipped(emit, op, real, unit[0]))
        return
    step = emit.graph.const(f"{op.output}.unit", unit[0], np.float32)
    real = emit.graph.node("Div", [real, step], f"{op.output}.steps")
    real = emit.graph.node("Round", [real], f"{op.output}.rounded")
    real = _clipped(emit, op, real, 1.0)
    emit.keep(op.output, emit.graph.node("Mul", [real, step], op.output), unit)


def _unit_of_result(emit: Values, op: Op) -> np.ndarray:
    return emit.own_unit(op.output)[0][:1]


def _clipped(emit: Values, op: Op, real: str, unit: float) -> str:
    """`real` within the bounds of `op`; no node where the integers of the result hold no others."""
    low, high = op.attrs["low"], op.attrs["high"]
    dtype = emit.dtype(op.output)
    held = RANGE["int8" if dtype == "int4" else dtype] if emit.is_narrow(op.output) else None
    if (low, high) == held:
        return real
    if emit.has_node_units and emit.is_narrow(op.output) and op.kind != "clamp":
        real = emit.rounded(op.output, real)
    if held and (low, high) == (0, held[1]):
        return emit.graph.node("Relu", [real], f"{op.output}.relu")
    ends = [emit.graph.const("bound", level * unit, np.float32) for level in (low, high)]
    return emit.graph.node("Clip", [real, *ends], f"{op.output}.clip")


def _carried(emit: Values, op: Op, i: int = 0) -> tuple[str, np.ndarray, int]:
    """The real form of an operand whose integers become those of the result, in units of the
    result, and that unit with its axis."""
    name = op.inputs[i]
    (unit, axis), (before, before_axis) = emit.units[name], emit.own_unit(name)
    after, after_axis = emit.own_unit(op.output)
    if before.size > 1 and sorted(before.tolist()) == sorted(after.tolist()):
        if unit.size > 1:
            before_axis = axis
        return emit.in_unit(name, emit.real(name), unit, before, before_axis), after, after_axis
    return emit.in_unit(name, emit.real(name), unit, after[:1], axis), after[:1], 1


def clamp(emit: Values, op: Op) -> None:
    """A clamp at two integers."""
    real, unit, axis = _carried(emit, op)
    if unit.size == 1:
        emit.keep(op.output, _clipped(emit, op, real, float(unit[0])), unit)
        return
    ends = [
        emit.graph.const("bound", emit.shaped(op.output, op.attrs[key] * unit, axis), np.float32)
        for key in ("low", "high")
    ]
    real = emit.graph.node("Max", [real, ends[0]], f"{op.output}.low")
    emit.keep(op.output, emit.graph.node("Min", [real, ends[1]], f"{op.output}.high"), unit, axis)


def mul(emit: Values, op: Op) -> None:
    """The product of two activations."""
    y = emit.graph.node("Mul", [emit.x(op, 0), emit.x(op, 1)], f"{op.output}.product")
    emit.keep(op.output, y, emit.one(op.inputs[0]) * emit.one(op.inputs[1]))


def affine(emit: Values, op: Op) -> None:
    """x * w[c] + b[c]."""
    axis, graph = op.attrs["axis"], emit.graph
    unit, (before, _) = unit_of_sums(emit, op, axis), emit.units[op.inputs[0]]
    weight, bias = (
        graph.const(op.inputs[i], emit.shaped(op.output, array, axis), np.float32)
        for i, array in ((1, emit.array(op, 1) * unit / before), (2, emit.array(op, 2) * unit))
    )
    y = graph.node("Mul", [emit.x(op), weight], f"{op.output}.product")
    emit.keep(op.output, graph.node("Add", [y, bias], f"{op.output}.biased"), unit, axis)


def divide(emit: Values, op: Op) -> None:
    """A quotient. A divisor of 0 counts as one step."""
    graph, (x, y) = emit.graph, op.inputs
    step = graph.const(f"{y}.unit", emit.one(y)[0], np.float32)
    none = graph.node(
        "Equal", [emit.real(y), graph.const("none", 0.0, np.float32)], f"{op.output}.none"
    )
    divisor = graph.node("Where", [none, step, emit.real(y)], f"{op.output}.divisor")
    real = graph.node("Div", [emit.real(x), divisor], f"{op.output}.quotient")
    factor = op.attrs["multiplier"] * 2.0 ** -op.attrs["shift"] * _unit_of_result(emit, op)
    unit = emit.one(x) / emit.one(y)
    _rounded(emit, op, emit.in_unit(op.output, real, unit, factor, 1))


def max_pool(emit: Values, op: Op) -> None:
    """ONNX bounds its own padding by the kernel; a wider one is a Pad."""
    a, graph = op.attrs, emit.graph
    real, unit, axis = _carried(emit, op)
    pads = list(a["padding"])
    if any(p >= k for p, k in zip(pads, [*a["kernel"]] * 2, strict=True)):
        lowest = RANGE[emit.dtype(op.inputs[0])][0] * unit[0]
        real, pads = _padded(emit, op, real, lowest), [0] * 4
    attrs: dict[str, Any] = {"kernel_shape": list(a["kernel"]), "strides": list(a["stride"])}
    y = graph.node(
        "MaxPool", [real], f"{op.output}.max", pads=pads, dilations=list(a["dilation"]), **attrs
    )
    emit.keep(op.output, y, unit, axis)


def pad(emit: Values, op: Op) -> None:
    """A constant around an image."""
    real, unit, axis = _carried(emit, op)
    emit.keep(op.output, _padded(emit, op, real, op.attrs["value"] * unit[0]), unit, axis)


def _padded(emit: Values, op: Op, real: str, value: float) -> str:
    top, left, bottom, right = op.attrs["padding"]
    pads = emit.graph.const(f"{op.output}.pads", [0, 0, top, left, 0, 0, bottom, right], np.int64)
    fill = emit.graph.const("fill", value, np.float32)
    return emit.graph.node("Pad", [real, pads, fill], f"{op.output}.pad")


def sum_pool(emit: Values, op: Op) -> None:
    """The sum of a window, as its mean in units that are smaller by its area."""
    a = op.attrs
    y = emit.graph.node(
        "AveragePool",
        [emit.x(op)],
        f"{op.output}.mean",
        kernel_shape=list(a["kernel"]),
        strides=list(a["stride"]),
        pads=list(a["padding"]),
        count_include_pad=1,
    )
    emit.keep(op.output, y, emit.one(op.inputs[0]) / prod(a["kernel"]))


def reduce_sum(emit: Values, op: Op) -> None:
    """A sum over dims, as their mean in units that are smaller by their number."""
    shape, axes, graph = emit.shape(op.inputs[0]), tuple(op.attrs["axes"]), emit.graph
    keep = int(op.attrs["keepdim"])
    if axes == (2, 3) and len(shape) == 3:
        y = graph.node("GlobalAveragePool", [emit.x(op)], f"{op.output}.mean")
        if not keep:
            flat = graph.const(f"{op.output}.shape", [0, *emit.shape(op.output)], np.int64)
            y = graph.node("Reshape", [y, flat], f"{op.output}.flat")
    else:
        y = graph.node(
            "ReduceMean", [emit.x(op)], f"{op.output}.mean", axes=list(axes), keepdims=keep
        )
    emit.keep(op.output, y, emit.one(op.inputs[0]) / prod(shape[axis - 1] for axis in axes))


def reduce_max(emit: Values, op: Op) -> None:
    """The largest number over dims."""
    real, unit, axis = _carried(emit, op)
    attrs: dict[str, Any] = {"axes": list(op.attrs["axes"]), "keepdims": int(op.attrs["keepdim"])}
    y = emit.graph.node("ReduceMax", [real], f"{op.output}.max", **attrs)
    emit.keep(op.output, y, unit, axis)


def argmax(emit: Values, op: Op) -> None:
    """The place of the largest number."""
    attrs = {"axis": op.attrs["axis"], "keepdims": int(op.attrs["keepdim"])}
    y = emit.graph.node("ArgMax", [emit.x(op)], f"{op.output}.place", **attrs)
    emit.keep(op.output, emit.graph.cast(y, np.float32, f"{op.output}.real"), np.ones(1))


def resize_nearest(emit: Values, op: Op) -> None:
    """Rows and columns by their place: Resize for whole factors, else Gather."""
    graph, after = emit.graph, op.attrs["size"]
    real, unit, axis = _carried(emit, op)
    before = emit.shape(op.inputs[0])[1:]
    if all(b % a == 0 for a, b in zip(before, after, strict=True)):
        scales = [1.0, 1.0, *(b / a for a, b in zip(before, after, strict=True))]
        names = [real, "", graph.const(f"{op.output}.scales", scales, np.float32)]
        modes = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        real = graph.node("Resize", names, f"{op.output}.resized", mode="nearest", **modes)
    else:
        for dim, size, out in zip((2, 3), before, after, strict=True):
            index = graph.const(f"{op.output}.index", nearest_index(size, out), np.int64)
            real = graph.node("Gather", [real, index], f"{op.output}.taken", axis=dim)
    emit.keep(op.output, real, unit, axis)


def resize_bilinear(emit: Values, op: Op) -> None:
    """The Program rounds the weights of the four pixels to 2^-bits; here they are not rounded."""
    graph, before, after = emit.graph, emit.shape(op.inputs[0])[1:], op.attrs["size"]
    mode = "align_corners" if op.attrs["align_corners"] else "half_pixel"
    # scales, because sizes would fix the batch
    scales = [1.0, 1.0, *(whole_scale(a, b) for a, b in zip(before, after, strict=True))]
    names = [emit.x(op), "", graph.const(f"{op.output}.scales", scales, np.float32)]
    y = graph.node(
        "Resize",
        names,
        f"{op.output}.resized",
        mode="linear",
        coordinate_transformation_mode=mode,
    )
    emit.keep(op.output, y, emit.one(op.inputs[0]) / 4.0 ** op.attrs["bits"])


def concat(emit: Values, op: Op) -> None:
    """Operands one behind the other."""
    parts = [_carried(emit, op, i) for i in range(len(op.inputs))]
    names = [real for real, _, _ in parts]
    y = emit.graph.node("Concat", names, f"{op.output}.joined", axis=op.attrs["axis"])
    emit.keep(op.output, y, *parts[0][1:])


def moved(kind: str) -> Callable[[Values, Op], None]:
    """The writer of a move of one operand."""

    def write(emit: Values, op: Op) -> None:
        same_dims = emit.shape(op.inputs[0]) == emit.shape(op.output)
        before, after = (emit.own_unit(name)[0] for name in (op.inputs[0], op.output))
        if kind == "reshape" and same_dims and np.array_equal(before, after):
            emit.alias(op.output, op.inputs[0])
            return
        real, unit, axis = _carried(emit, op)
        emit.keep(op.output, _MOVES[kind](emit, op, real), unit, axis)

    return write


def _reshape(emit: Values, op: Op, real: str) -> str:
    shape = emit.graph.const(f"{op.output}.shape", [0, *op.attrs["shape"]], np.int64)
    return emit.graph.node("Reshape", [real, shape], f"{op.output}.reshaped")


def _transpose(emit: Values, op: Op, real: str) -> str:
    perm = list(op.attrs["perm"])
    return emit.graph.node("Transpose", [real], f"{op.output}.transposed", perm=perm)


def _slice(emit: Values, op: Op, real: str) -> str:
    ends = [
        emit.graph.const(f"{op.output}.{key}", [op.attrs[key]], np.int64)
        for key in ("start", "stop", "axis", "step")
    ]
    return emit.graph.node("Slice", [real, *ends], f"{op.output}.part")


_MOVES = {"reshape": _reshape, "transpose": _transpose, "slice": _slice}


def standardize(emit: Values, op: Op) -> None:
    """A norm over the input's own statistics."""
    graph, a, x = emit.graph, op.attrs, emit.x(op)
    axes = list(a["axes"])
    count = prod(emit.shape(op.inputs[0])[axis - 1] for axis in axes)
    epsilon = a["epsilon"] * float(emit.one(op.inputs[0])[0]) ** 2 / count**2

    def node(kind: str, *inputs: str, **attrs: Any) -> str:
        return graph.node(kind, list(inputs), f"{op.output}.{kind.lower()}", **attrs)

    away = node("Sub", x, node("ReduceMean", x, axes=axes, keepdims=1))
    variance = node("ReduceMean", node("Mul", away, away), axes=axes, keepdims=1)
    more = node("Add", variance, graph.const("epsilon", epsilon, np.float32))
    y = node("Div", away, node("Sqrt", more))
    emit.keep(op.output, y, np.full(1, 2.0 ** -a["bits"]))
