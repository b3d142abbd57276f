"""A Program in onnxruntime's fast kernels: uint8 values, one float32 product a requantization.

A value of int8 or int4 is held as its integer plus 128. A convolution and the requantization behind
it are one QLinearConv whose weight scale is m / 2^s; other sums and products are written in float32
between DequantizeLinear and QuantizeLinear, which onnxruntime fuses to QLinearAdd, QLinearMul,
QLinearMatMul, QLinearGlobalAveragePool and MatMulIntegerToFloat. The scale of every value is 1:
real numbers in between are the Program's integers. Where an op has no such form, or 16 bits, it is
written as `to_onnx` writes it, exactly.

What differs from the Program: float32 products are rounded, and ties go to even, so that a result
close to a half may land one integer away.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial

import numpy as np

from qatspec.export.fast import images, products, tails
from qatspec.export.fast.values import Values
from qatspec.export.fast.widths import widths
from qatspec.ir import Op, ProgramData
from qatspec.kinds import KINDS, Trait, has, ranges
from qatspec.kinds.requantization.forms import form_of
from qatspec.onnxgraph import GraphWriter

#: A writer of an op on uint8. None: it has no such form.
Write = Callable[[Values, Op], str | None]

#: Kinds whose result is written on uint8.
_SHIFTED: dict[str, Write] = {
    "clamp": lambda emit, op: emit.clipped(emit.unsigned(op.inputs[0]), op),
    "lut": images.lut,
    "max_pool": images.max_pool,
    "pad": images.pad,
    "resize_nearest": images.resize_nearest,
}

#: Kinds whose int32 sums have a faster form than ConvInteger or MatMulInteger of int8.
_SUMS: dict[str, Callable[[Values, Op], str]] = {"conv": tails.conv, "linear": products.linear}

#: Kinds whose int32 result is written together with the requantization behind it: as one node ...
_JOINED: dict[str, Callable[[Values, Op, Op, np.ndarray], str | None]] = {
    "conv": lambda emit, op, requant, factor: products.requantized_conv(
        emit, op, emit.array(op, 1), requant, factor
    ),
    "reduce_sum": images.mean,
    "sum_pool": products.window_sum,
}
#: ... or as real numbers, times m / 2^s, in front of QuantizeLinear.
_REAL: dict[str, Callable[[Values, Op, np.ndarray, int], str | None]] = {
    "linear": products.real_linear,
    "matmul": partial(products.real_product, "MatMul"),
    "mul": partial(products.real_product, "Mul"),
    "resize_bilinear": images.real_bilinear,
}


def _is_single(op: Op) -> bool:
    """Return whether `op` is a requantization with one rounding, as kernels have it."""
    return op.kind == "requant" and form_of(op) == "single"


class FastEmitter(Values):
    """Writes a Program op by op. fused: results that a requantization will compute."""

    def __init__(self, program: ProgramData, writer: GraphWriter, opset: int) -> None:
        super().__init__(program, writer, opset)
        self.fused: dict[str, Op] = {}
        self.ranges = ranges(program)
        self.readers = Counter(name for op in program.ops for name in op.inputs)
        self.readers.update(port.name for port in program.outputs)
        self.requantized = {
            op.inputs[0] for op in program.ops if _is_single(op) and len(op.inputs) == 3
        }
        for op in program.ops:
            convolves = has(op, Trait.BYTE_KERNEL) and has(op, Trait.WINDOWED)
            if convolves and self._takes_bytes(op) and not self._is_fused(op):
                self.tails.setdefault(tails.window_of(self, op), []).append(op)
        self.widths = widths(self, self._rounded_convs(), self.readers)

    def _rounded_convs(self) -> dict[str, Op]:
        """The results of requantizations that are written together with a convolution -> it."""
        convs = {op.output: op for op in self.program.ops if op.kind == "conv"}
        return {
            op.output: convs[op.inputs[0]]
            for op in self.program.ops
            if _is_single(op) and op.inputs[0] in convs and self._is_joined(op, convs)
        }

    def _is_joined(self, requant: Op, convs: Mapping[str, Op]) -> bool:
        op = convs[requant.inputs[0]]
        if not (self._takes_bytes(op) and self._is_fused(op) and self._is_rounded(requant)):
            return False
        return bool((self._factors(requant)[0] > 0).all())

    def emit(self, op: Op) -> None:
        """Write one op, or leave it to the requantization that alone reads it."""
        if op.output in self.names:  # written with a sibling
            return
        if _is_single(op):
            self._emit_requant(op)
        elif not self._takes_bytes(op):
            self.names[op.output] = KINDS[op.kind].onnx(self, op)
        elif self._is_fused(op):
            self.fused[op.output] = op
        elif (write := _SHIFTED.get(op.kind)) and (y := write(self, op)) is not None:
            self.shifted[op.output] = y
        elif has(op, Trait.COMMUTES):
            self.shifted[op.output] = self._commuted(op)
        else:
            self.names[op.output] = self._sums(op)

    def _emit_requant(self, op: Op) -> None:
        first = self.fused.get(op.inputs[0])
        if self._is_rounded(op):
            known = self.wide if op.output in self.widths else self.shifted
            known[op.output] = self._requantized(op, first)
            return
        if first:
            self.names[first.output] = self._sums(first)
        self.names[op.output] = KINDS[op.kind].onnx(self, op)

    def _is_rounded(self, op: Op) -> bool:
        """Return whether a requantization is to 8 bits, by a rounding as kernels have it."""
        rounds_to_nearest = op.attrs["rounding"] != "floor"
        return self.is_narrow(op.output) and rounds_to_nearest and self._is_small(op)

    def _requantized(self, op: Op, first: Op | None) -> str:
        """A requantization to 8 bits. first: the op whose sums it alone reads, not written yet."""
        factors, axis = self._factors(op), op.attrs["axis"]
        if first is not None:
            joined = _JOINED.get(first.kind) if (factors[0] > 0).all() else None
            if joined and (y := joined(self, first, op, factors[0])) is not None:
                return y
            if (write := _REAL.get(first.kind)) and (y := write(self, first, factors[0], axis)):
                return self.quantized(y, op)
            self.names[first.output] = self._sums(first)
        parts = [self.real(op.inputs[i], factor, axis) for i, factor in enumerate(factors)]
        total = parts[0]
        for part in parts[1:]:
            total = self.graph.node("Add", [total, part], f"{op.output}.sum")
        return self.quantized(total, op)

    def _sums(self, op: Op) -> str:
        """The result of an op as the Program has it, exactly."""
        return _SUMS.get(op.kind, KINDS[op.kind].onnx)(self, op)

    def _factors(self, op: Op) -> list[np.ndarray]:
        """m / 2^s of every term of a requantization."""
        terms = len(op.inputs) // 2
        unit = np.exp2(-self.array(op, 2 * terms).astype(np.float64))
        return [self.array(op, terms + i).astype(np.float64) * unit for i in range(terms)]

    def _is_small(self, op: Op) -> bool:
        """Return whether every number before the rounding fits an int32 for all inputs. Kernels
        convert to that before they clip."""
        largest = 0.0
        for name, factor in zip(op.inputs, self._factors(op), strict=False):
            bounds = self.ranges[name].merged()
            size = max(abs(int(bounds.low[0])), abs(int(bounds.high[0])))
            largest += np.abs(factor).max() * size
        return bool(largest < 2**30)

    def _is_fused(self, op: Op) -> bool:
        alone = self.readers[op.output] == 1 and op.output in self.requantized
        return (op.kind in _JOINED or op.kind in _REAL) and alone

    def _takes_bytes(self, op: Op) -> bool:
        """Return whether all that an op computes with has 8 bits or less."""
        values = [name for name in op.inputs if name not in self.program.consts]
        is_wide = has(op, Trait.WEIGHTED) and self.array(op, 1).dtype != np.int8
        return all(self.is_narrow(name) for name in values) and not is_wide

    def _commuted(self, op: Op) -> str:
        """What the exact form writes, on the uint8 of its operands."""
        kept = self.names
        self.names = {name: self.unsigned(name) for name in op.inputs}
        try:
            commuted: str = KINDS[op.kind].onnx(self, op)
            return commuted
        finally:
            self.names = kept
