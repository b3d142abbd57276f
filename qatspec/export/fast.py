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
from qatspec.kinds import KINDS
from qatspec.kinds.emitter import Emitter
from qatspec.onnxgraph import GraphWriter

_ZERO = 128
_NARROW = ("int8", "int4")
#: Kinds that move numbers, by ONNX ops that take any type.
_MOVES = ("concat", "reshape", "transpose", "slice", "reduce_max")
#: Kinds whose int32 result goes into the requantization behind it.
_FUSED = ("conv", "mul")


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
            wide = self.w.cast(self.shifted[name], np.int32, f"{name}.wide")
            zero = self.w.const("zero", _ZERO, np.int32)
            self.names[name] = self.w.cast(
                self.w.node("Sub", [wide, zero], f"{name}.moved"), np.int8, f"{name}.int8"
            )
        return self.names[name]

    def unsigned(self, name: str) -> str:
        """A value plus 128, as uint8."""
        if name not in self.shifted:
            wide = self.w.cast(self.names[name], np.int32, f"{name}.wide")
            zero = self.w.const("zero", _ZERO, np.int32)
            self.shifted[name] = self.w.cast(
                self.w.node("Add", [wide, zero], f"{name}.moved"), np.uint8, f"{name}.uint8"
            )
        return self.shifted[name]

    def emit(self, op: Op) -> None:
        """Write one op, or leave it to the requantization that alone reads it."""
        values = [name for name in op.inputs if name not in self.program.consts]
        narrow = all(self.dtype(name) in _NARROW for name in values)
        if op.kind == "requant" and self.dtype(op.output) in _NARROW and self._is_small(op):
            self.shifted[op.output] = _requant(self, op)
        elif op.kind == "requant":
            if first := self.fused.get(op.inputs[0]):
                exact = _sums if first.kind == "conv" else KINDS[first.kind].onnx
                self.names[first.output] = exact(self, first)
            self.names[op.output] = KINDS[op.kind].onnx(self, op)
        elif not narrow or not self._has_narrow_weight(op):
            self.names[op.output] = KINDS[op.kind].onnx(self, op)
        elif self._is_fused(op):
            self.fused[op.output] = op
        elif op.kind == "conv":
            self.names[op.output] = _sums(self, op)
        elif op.kind == "lut" and self.dtype(op.output) in _NARROW:
            self.shifted[op.output] = _lut(self, op)
        elif write := _WRITE.get(op.kind):
            self.shifted[op.output] = write(self, op)
        elif op.kind in _MOVES:
            self.shifted[op.output] = self._moved(op)
        else:
            self.names[op.output] = KINDS[op.kind].onnx(self, op)

    def real(self, name: str, factor: np.ndarray, axis: int | None) -> str:
        """A value times a factor (one number, or one a channel of `axis`), as float32."""
        factor = factor.astype(np.float32)
        scale = self.w.const(f"{name}.m", factor if factor.size > 1 else factor[0], np.float32)
        along: dict[str, Any] = {} if factor.size == 1 else {"axis": axis}
        if self.dtype(name) in _NARROW:
            zero = np.full(factor.shape if factor.size > 1 else (), _ZERO)
            names = [self.unsigned(name), scale, self.w.const("zero", zero, np.uint8)]
            return self.w.node("DequantizeLinear", names, f"{name}.real", **along)
        if factor.size > 1:
            rank = len(self.shape(name)) + 1
            shape = [-1 if d == axis else 1 for d in range(1, rank)]
            scale = self.w.const(f"{name}.m", factor.reshape(shape), np.float32)
        wide = self.w.cast(self.signed(name), np.float32, f"{name}.float")
        return self.w.node("Mul", [wide, scale], f"{name}.real")

    def clipped(self, q: str, op: Op) -> str:
        """uint8 integers within the bounds of `op`."""
        levels = [op.attrs["low"] + _ZERO, op.attrs["high"] + _ZERO]
        if levels == [0, 255]:
            return q
        bounds = [self.w.const("bound", level, np.uint8) for level in levels]
        return self.w.node("Clip", [q, *bounds], op.output)

    def quantized(self, real: str, op: Op) -> str:
        """Rounded to uint8, within the bounds of `op`."""
        one, zero = self.w.const("one", 1.0, np.float32), self.w.const("zero", _ZERO, np.uint8)
        q = self.w.node("QuantizeLinear", [real, one, zero], f"{op.output}.q")
        return self.clipped(q, op)

    def _is_small(self, op: Op) -> bool:
        """Return whether every number before the rounding fits an int32 for all inputs. Kernels
        convert to that before they clip."""
        factors = _factors(self, op)
        sizes = [-RANGE[self.dtype(name)][0] for name in op.inputs[: len(factors)]]
        largest = sum(np.abs(f).max() * size for f, size in zip(factors, sizes, strict=True))
        return bool(largest < 2**30)

    def _is_fused(self, op: Op) -> bool:
        alone = self.readers[op.output] == 1 and op.output in self.requantized
        return op.kind in _FUSED and alone

    def _has_narrow_weight(self, op: Op) -> bool:
        return op.kind != "conv" or self.array(op, 1).dtype == np.int8

    def _moved(self, op: Op) -> str:
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


def _requant(emit: FastEmitter, op: Op) -> str:
    factors, axis, first = _factors(emit, op), op.attrs["axis"], emit.fused.get(op.inputs[0])
    if first is None:
        parts = [emit.real(op.inputs[i], factor, axis) for i, factor in enumerate(factors)]
    elif first.kind == "conv" and (factors[0] > 0).all():
        return _qlinear_conv(emit, first, op, factors[0])
    elif first.kind == "conv":
        emit.names[first.output] = _sums(emit, first)
        parts = [emit.real(first.output, factors[0], axis)]
    else:
        x, y = first.inputs
        sides = [emit.real(x, factors[0], axis), emit.real(y, np.ones(1), None)]
        parts = [emit.w.node("Mul", sides, f"{op.output}.product")]
    total = parts[0]
    for part in parts[1:]:
        total = emit.w.node("Add", [total, part], f"{op.output}.sum")
    return emit.quantized(total, op)


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
    w, weight = emit.w, emit.array(conv, 1)
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


def _sums(emit: FastEmitter, op: Op) -> str:
    """The int32 sums of a convolution, exact. In float32 where every partial sum is an integer
    below 2^24: onnxruntime's float convolution is faster than its ConvInteger."""
    w, weight = emit.w, emit.array(op, 1)
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
    w, zero = emit.w, emit.w.const("zero", _ZERO, np.uint8)
    weight = w.const(op.inputs[1], emit.array(op, 1), np.int8)
    names = [emit.unsigned(op.inputs[0]), weight, zero]
    sums = w.node("ConvInteger", names, f"{op.output}.acc", **_conv_attributes(emit, op))
    if len(op.inputs) < 3:
        return sums
    bias = w.const(op.inputs[2], emit.array(op, 2).reshape(-1, 1, 1), np.int32)
    return w.node("Add", [sums, bias], op.output)


def _max_pool(emit: FastEmitter, op: Op) -> str:
    a, w, x = op.attrs, emit.w, emit.unsigned(op.inputs[0])
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
    pads = emit.w.const(f"{op.output}.pads", [0, 0, top, left, 0, 0, bottom, right], np.int64)
    fill = emit.w.const("fill", value + _ZERO, np.uint8)
    return emit.w.node("Pad", [x, pads, fill], f"{op.output}.pad")


def _resize(emit: FastEmitter, op: Op) -> str:
    """A Resize where it repeats every row and column as often, else by index."""
    before, after = emit.shape(op.inputs[0])[1:], op.attrs["size"]
    if any(b % a for a, b in zip(before, after, strict=True)):
        return emit._moved(op)
    factors: Sequence[float] = [1, 1, *(b // a for a, b in zip(before, after, strict=True))]
    scales = emit.w.const(f"{op.output}.scales", factors, np.float32)
    return emit.w.node(
        "Resize",
        [emit.unsigned(op.inputs[0]), "", scales],
        op.output,
        mode="nearest",
        coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
    )


def _lut(emit: FastEmitter, op: Op) -> str:
    """The uint8 is the index itself where the table is as long as int8's."""
    w, first = emit.w, RANGE[emit.dtype(op.inputs[0])][0] + _ZERO
    index = w.cast(emit.unsigned(op.inputs[0]), np.int32, f"{op.output}.index")
    if first:
        index = w.node("Sub", [index, w.const("first", first, np.int32)], f"{op.output}.first")
    table = w.const(op.inputs[1], emit.array(op, 1).astype(np.int64) + _ZERO, np.uint8)
    return w.node("Gather", [table, index], op.output)


_WRITE: dict[str, Callable[[FastEmitter, Op], str]] = {
    "clamp": lambda emit, op: emit.clipped(emit.unsigned(op.inputs[0]), op),
    "max_pool": _max_pool,
    "pad": lambda emit, op: _padded(emit, emit.unsigned(op.inputs[0]), op, op.attrs["value"]),
    "resize_nearest": _resize,
}
