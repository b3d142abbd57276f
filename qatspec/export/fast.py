"""A Program in onnxruntime's fast kernels: uint8 values, one float32 product a requantization.

A value of int8 or int4 is held as its integer plus 128. A convolution and the requantization behind
it are one QLinearConv whose weight scale is m / 2^s; sums and products of values go between
DequantizeLinear and QuantizeLinear, which onnxruntime fuses to QLinearAdd and QLinearMul. The scale
of every value is 1: real numbers in between are the Program's integers. Where an op has no such
form, or 16 bits, it is written as `to_onnx` writes it, exactly.

What differs from the Program: float32 products are rounded, and ties go to even, so that a result
close to a half may land one integer away.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from qatspec.ir import RANGE, Op, ProgramData
from qatspec.kinds import KINDS, Trait, has
from qatspec.kinds.emitter import Emitter
from qatspec.onnxgraph import GraphWriter

_ZERO = 128
_NARROW = ("int8", "int4")


class FastEmitter(Emitter):
    """`names` holds results as the Program has them, `shifted` as uint8; either is written from the
    other where an op needs it. fused: results that a requantization will compute."""

    def __init__(self, program: ProgramData, writer: GraphWriter, opset: int) -> None:
        super().__init__(program, writer, opset)
        self.shifted: dict[str, str] = {}
        self.fused: dict[str, Op] = {}
        self.readers = Counter(name for op in program.ops for name in op.inputs)
        self.readers.update(port.name for port in program.outputs)
        self.requantized = {
            op.inputs[0] for op in program.ops if op.kind == "requant" and len(op.inputs) == 3
        }

    def x(self, op: Op, i: int = 0) -> str:
        return self.signed(op.inputs[i])

    def signed(self, name: str) -> str:
        """A value as the Program has it."""
        if name not in self.names:
            wide = self.graph.cast(self.shifted[name], np.int32, f"{name}.wide")
            zero = self.graph.const("zero", _ZERO, np.int32)
            self.names[name] = self.graph.cast(
                self.graph.node("Sub", [wide, zero], f"{name}.moved"), np.int8, f"{name}.int8"
            )
        return self.names[name]

    def unsigned(self, name: str) -> str:
        """A value plus 128, as uint8."""
        if name not in self.shifted:
            wide = self.graph.cast(self.names[name], np.int32, f"{name}.wide")
            zero = self.graph.const("zero", _ZERO, np.int32)
            self.shifted[name] = self.graph.cast(
                self.graph.node("Add", [wide, zero], f"{name}.moved"), np.uint8, f"{name}.uint8"
            )
        return self.shifted[name]

    def emit(self, op: Op) -> None:
        """Write one op, or leave it to the requantization that alone reads it."""
        values = [name for name in op.inputs if name not in self.program.consts]
        narrow = all(self.dtype(name) in _NARROW for name in values)
        if op.kind == "requant":
            self._requantize(op)
        elif not narrow or not self._has_narrow_weight(op):
            self.names[op.output] = KINDS[op.kind].onnx(self, op)
        elif op.kind in _FUSED and self._is_requantized_alone(op):
            self.fused[op.output] = op
        elif op.kind in _UINT8 and self.dtype(op.output) in _NARROW:
            self.shifted[op.output] = _UINT8[op.kind](self, op)
        elif has(op, Trait.COMMUTES):
            self.shifted[op.output] = self.commuted(op)
        else:
            self.names[op.output] = _exact(self, op)

    def _requantize(self, op: Op) -> None:
        """Write a requantization, with the op before it where that was left to it."""
        first = self.fused.get(op.inputs[0])
        if self.dtype(op.output) in _NARROW and self._is_small(op):
            factors = _factors(self, op)
            self.shifted[op.output] = (
                _sum(self, op, factors)
                if first is None
                else _FUSED[first.kind](self, first, op, factors)
            )
            return
        if first is not None:
            self.names[first.output] = _exact(self, first)
        self.names[op.output] = KINDS[op.kind].onnx(self, op)

    def real(self, name: str, factor: np.ndarray, axis: int | None) -> str:
        """A value times a factor (one number, or one a channel of `axis`), as float32."""
        factor = factor.astype(np.float32)
        scale = self.graph.const(f"{name}.m", factor if factor.size > 1 else factor[0], np.float32)
        along: dict[str, Any] = {} if factor.size == 1 else {"axis": axis}
        if self.dtype(name) in _NARROW:
            zero = np.full(factor.shape if factor.size > 1 else (), _ZERO)
            names = [self.unsigned(name), scale, self.graph.const("zero", zero, np.uint8)]
            return self.graph.node("DequantizeLinear", names, f"{name}.real", **along)
        if factor.size > 1:
            rank = len(self.shape(name)) + 1
            shape = [-1 if d == axis else 1 for d in range(1, rank)]
            scale = self.graph.const(f"{name}.m", factor.reshape(shape), np.float32)
        wide = self.graph.cast(self.signed(name), np.float32, f"{name}.float")
        return self.graph.node("Mul", [wide, scale], f"{name}.real")

    def clipped(self, q: str, op: Op) -> str:
        """uint8 integers within the bounds of `op`."""
        levels = [op.attrs["low"] + _ZERO, op.attrs["high"] + _ZERO]
        if levels == [0, 255]:
            return q
        bounds = [self.graph.const("bound", level, np.uint8) for level in levels]
        return self.graph.node("Clip", [q, *bounds], op.output)

    def quantized(self, real: str, op: Op) -> str:
        """Rounded to uint8, within the bounds of `op`."""
        one, zero = (
            self.graph.const("one", 1.0, np.float32),
            self.graph.const("zero", _ZERO, np.uint8),
        )
        q = self.graph.node("QuantizeLinear", [real, one, zero], f"{op.output}.q")
        return self.clipped(q, op)

    def _is_small(self, op: Op) -> bool:
        """Return whether every number before the rounding fits an int32 for all inputs. Kernels
        convert to that before they clip."""
        factors = _factors(self, op)
        sizes = [-RANGE[self.dtype(name)][0] for name in op.inputs[: len(factors)]]
        largest = sum(np.abs(f).max() * size for f, size in zip(factors, sizes, strict=True))
        return bool(largest < 2**30)

    def _is_requantized_alone(self, op: Op) -> bool:
        return self.readers[op.output] == 1 and op.output in self.requantized

    def _has_narrow_weight(self, op: Op) -> bool:
        return not has(op, Trait.WEIGHTED) or self.array(op, 1).dtype == np.int8

    def commuted(self, op: Op) -> str:
        """What the exact form writes, on the uint8 of its operands."""
        kept = self.names
        self.names = {name: self.unsigned(name) for name in op.inputs}
        try:
            moved: str = KINDS[op.kind].onnx(self, op)
            return moved
        finally:
            self.names = kept


def _factors(emit: FastEmitter, op: Op) -> list[np.ndarray]:
    """m / 2^s of every term of a requantization."""
    terms = len(op.inputs) // 2
    unit = np.exp2(-emit.array(op, 2 * terms).astype(np.float64))
    return [emit.array(op, terms + i).astype(np.float64) * unit for i in range(terms)]


def _sum(emit: FastEmitter, op: Op, factors: Sequence[np.ndarray]) -> str:
    """A requantization of values that are written already."""
    axis = op.attrs["axis"]
    total, *parts = (emit.real(op.inputs[i], factor, axis) for i, factor in enumerate(factors))
    for part in parts:
        total = emit.graph.node("Add", [total, part], f"{op.output}.sum")
    return emit.quantized(total, op)


def _requantized_product(emit: FastEmitter, mul: Op, op: Op, factors: Sequence[np.ndarray]) -> str:
    x, y = mul.inputs
    sides = [emit.real(x, factors[0], op.attrs["axis"]), emit.real(y, np.ones(1), None)]
    return emit.quantized(emit.graph.node("Mul", sides, f"{op.output}.product"), op)


def _requantized_conv(emit: FastEmitter, conv: Op, op: Op, factors: Sequence[np.ndarray]) -> str:
    """One QLinearConv, whose weight scales are positive; else the exact sums, requantized."""
    if (factors[0] > 0).all():
        return _qlinear_conv(emit, conv, op, factors[0])
    emit.names[conv.output] = _conv_sums(emit, conv)
    return _sum(emit, op, factors)


def _conv_attributes(emit: FastEmitter, op: Op) -> dict[str, Any]:
    a = op.attrs
    return {
        "kernel_shape": list(emit.array(op, 1).shape[2:]),
        "strides": list(a["stride"]),
        "pads": list(a["padding"]),
        "dilations": list(a["dilation"]),
        "group": a["groups"],
    }


def _qlinear_conv(emit: FastEmitter, conv: Op, requant: Op, factor: np.ndarray) -> str:
    """Weights and zero points are not shared: see QdqWriter.integers."""
    w, weight = emit.graph, emit.array(conv, 1)
    scale = np.broadcast_to(factor, weight.shape[:1])
    one, zero = w.const("one", 1.0, np.float32), w.const("zero", _ZERO, np.uint8)
    names = [
        emit.unsigned(conv.inputs[0]), one, zero,
        w.const(conv.inputs[1], weight, np.int8, shared=False),
        w.const(f"{requant.output}.m", scale, np.float32),
        w.const("zeros", np.zeros(weight.shape[0]), np.int8, shared=False),
        one, zero,
    ]  # fmt: skip
    if len(conv.inputs) == 3:
        names.append(w.const(conv.inputs[2], emit.array(conv, 2), np.int32))
    q = w.node("QLinearConv", names, f"{requant.output}.conv", **_conv_attributes(emit, conv))
    return emit.clipped(q, requant)


def _conv_sums(emit: FastEmitter, op: Op) -> str:
    """The int32 sums of a convolution, exact. In float32 where every partial sum is an integer
    below 2^24: onnxruntime's float convolution is faster than its ConvInteger."""
    w, weight = emit.graph, emit.array(op, 1)
    bias = emit.array(op, 2).astype(np.int64) if len(op.inputs) == 3 else np.zeros(1, np.int64)
    largest = 128 * np.abs(weight.astype(np.int64)).reshape(len(weight), -1).sum(1) + np.abs(bias)
    if largest.max() >= 1 << 24:
        return _conv_integer(emit, op)
    names = [
        emit.real(op.inputs[0], np.ones(1), None),
        w.const(op.inputs[1], weight, np.float32),
        *([w.const(op.inputs[2], bias, np.float32)] if len(op.inputs) == 3 else []),
    ]
    sums = w.node("Conv", names, f"{op.output}.float", **_conv_attributes(emit, op))
    return w.cast(sums, np.int32, op.output)


def _conv_integer(emit: FastEmitter, op: Op) -> str:
    w, zero = emit.graph, emit.graph.const("zero", _ZERO, np.uint8)
    weight = w.const(op.inputs[1], emit.array(op, 1), np.int8)
    names = [emit.unsigned(op.inputs[0]), weight, zero]
    sums = w.node("ConvInteger", names, f"{op.output}.acc", **_conv_attributes(emit, op))
    if len(op.inputs) < 3:
        return sums
    bias = w.const(op.inputs[2], emit.array(op, 2).reshape(-1, 1, 1), np.int32)
    return w.node("Add", [sums, bias], op.output)


def _max_pool(emit: FastEmitter, op: Op) -> str:
    a, w, x = op.attrs, emit.graph, emit.unsigned(op.inputs[0])
    if any(a["padding"]):
        x = _padded(emit, x, op, RANGE[emit.dtype(op.inputs[0])][0])
    attrs: dict[str, Any] = {
        "kernel_shape": list(a["kernel"]),
        "strides": list(a["stride"]),
        "dilations": list(a["dilation"]),
    }
    return w.node("MaxPool", [x], op.output, **attrs)


def _padded(emit: FastEmitter, x: str, op: Op, value: int) -> str:
    top, left, bottom, right = op.attrs["padding"]
    pads = emit.graph.const(f"{op.output}.pads", [0, 0, top, left, 0, 0, bottom, right], np.int64)
    fill = emit.graph.const("fill", value + _ZERO, np.uint8)
    return emit.graph.node("Pad", [x, pads, fill], f"{op.output}.pad")


def _resize(emit: FastEmitter, op: Op) -> str:
    """A Resize where it repeats every row and column as often, else by index."""
    before, after = emit.shape(op.inputs[0])[1:], op.attrs["size"]
    if any(b % a for a, b in zip(before, after, strict=True)):
        return emit.commuted(op)
    factors: Sequence[float] = [1, 1, *(b // a for a, b in zip(before, after, strict=True))]
    scales = emit.graph.const(f"{op.output}.scales", factors, np.float32)
    return emit.graph.node(
        "Resize",
        [emit.unsigned(op.inputs[0]), "", scales],
        op.output,
        mode="nearest",
        coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
    )


def _lut(emit: FastEmitter, op: Op) -> str:
    """The uint8 is the index itself where the table is as long as int8's."""
    w, first = emit.graph, RANGE[emit.dtype(op.inputs[0])][0] + _ZERO
    index = w.cast(emit.unsigned(op.inputs[0]), np.int32, f"{op.output}.index")
    if first:
        index = w.node("Sub", [index, w.const("first", first, np.int32)], f"{op.output}.first")
    table = w.const(op.inputs[1], emit.array(op, 1).astype(np.int64) + _ZERO, np.uint8)
    return w.node("Gather", [table, index], op.output)


#: Kind -> writes its int32 result and the requantization that alone reads it, as uint8.
_FUSED: dict[str, Callable[[FastEmitter, Op, Op, Sequence[np.ndarray]], str]] = {
    "conv": _requantized_conv,
    "mul": _requantized_product,
}
#: Kind -> writes its result as uint8.
_UINT8: dict[str, Callable[[FastEmitter, Op], str]] = {
    "clamp": lambda emit, op: emit.clipped(emit.unsigned(op.inputs[0]), op),
    "lut": _lut,
    "max_pool": _max_pool,
    "pad": lambda emit, op: _padded(emit, emit.unsigned(op.inputs[0]), op, op.attrs["value"]),
    "resize_nearest": _resize,
}


def _exact(emit: FastEmitter, op: Op) -> str:
    """The result as the Program has it, by the form that is fastest for 8 bits."""
    return _conv_sums(emit, op) if op.kind == "conv" else str(KINDS[op.kind].onnx(emit, op))
