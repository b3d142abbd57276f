"""Values of a Program as uint8, and as the real numbers between two roundings."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import numpy as np

from qatspec.ir import RANGE, Op, ProgramData
from qatspec.kinds import BYTES
from qatspec.kinds.emitter import Emitter
from qatspec.onnxgraph import GraphWriter


class Values(Emitter):
    """An emitter whose 8-bit values exist in two forms.

    names    results as the Program has them.
    shifted  results as uint8: int8 and int4 plus 128, uint8 as it is. Either form is written from
             the other where an op needs it.
    tails    convolutions with int32 results, by what they may have in common (tails.window_of).
    widths   results that are written with more channels, to how many (qatspec.export.fast.widths).
    wide     those of `widths` that are written, as uint8.
    """

    def __init__(self, program: ProgramData, writer: GraphWriter, opset: int) -> None:
        super().__init__(program, writer, opset)
        self.shifted: dict[str, str] = {}
        self.tails: dict[Hashable, list[Op]] = {}
        self.widths: dict[str, int] = {}
        self.wide: dict[str, str] = {}

    def x(self, op: Op, i: int = 0) -> str:
        return self.signed(op.inputs[i])

    def signed(self, name: str) -> str:
        """A value as the Program has it."""
        if name not in self.names and self.dtype(name) == "uint8":
            self.names[name] = self.unsigned(name)
        if name not in self.names:
            real = self.real(name, np.ones(1), None)
            names = [real, self.one(), self.graph.const("none", 0, np.int8)]
            self.names[name] = self.graph.node("QuantizeLinear", names, f"{name}.int8")
        return self.names[name]

    def unsigned(self, name: str) -> str:
        """A value as uint8."""
        if name in self.wide and name not in self.shifted:
            ends = [0, self.shape(name)[0], 1, 1]  # start, end, axis and step
            cut = [self.graph.const("cut", [end], np.int64) for end in ends]
            self.shifted[name] = self.graph.node("Slice", [self.wide[name], *cut], name)
        if name not in self.shifted and self.dtype(name) == "uint8":
            self.shifted[name] = self.names[name]
        if name not in self.shifted:
            names = [self.names[name], self.one(), self.graph.const("none", 0, np.int8)]
            real = self.graph.node("DequantizeLinear", names, f"{name}.real")
            names = [real, self.one(), self.zero(name)]
            self.shifted[name] = self.graph.node("QuantizeLinear", names, f"{name}.uint8")
        return self.shifted[name]

    def widened(self, name: str) -> str:
        """A value as uint8, with the channels that it is written with."""
        return self.wide.get(name) or self.unsigned(name)

    def zero_point(self, name: str) -> int:
        """The uint8 that stands for 0 of a value."""
        return 0 if self.dtype(name) == "uint8" else 128

    def zero(self, name: str) -> str:
        """`zero_point` as a constant."""
        return self.graph.const("zero", self.zero_point(name), np.uint8)

    def one(self) -> str:
        """The scale of every value: real numbers are the Program's integers."""
        return self.graph.const("one", 1.0, np.float32)

    def lowest(self, name: str) -> int:
        """The lowest integer of a value's dtype, as uint8."""
        return RANGE[self.dtype(name)][0] + self.zero_point(name)

    def is_narrow(self, name: str) -> bool:
        """Return whether a value fits uint8."""
        return self.dtype(name) in BYTES

    def real(self, name: str, factor: np.ndarray, axis: int | None) -> str:
        """A value times a factor (one number, or one a channel of `axis`), as float32."""
        factor = factor.astype(np.float32)
        scale = self.graph.const(f"{name}.m", factor if factor.size > 1 else factor[0], np.float32)
        along: dict[str, Any] = {} if factor.size == 1 else {"axis": axis}
        if self.is_narrow(name):
            zero = np.full(factor.shape if factor.size > 1 else (), self.zero_point(name))
            names = [self.unsigned(name), scale, self.graph.const("zero", zero, np.uint8)]
            return self.graph.node("DequantizeLinear", names, f"{name}.real", **along)
        if factor.size > 1:
            rank = len(self.shape(name)) + 1
            shape = [-1 if d == axis else 1 for d in range(1, rank)]
            scale = self.graph.const(f"{name}.m", factor.reshape(shape), np.float32)
        wide = self.graph.cast(self.signed(name), np.float32, f"{name}.float")
        return self.graph.node("Mul", [wide, scale], f"{name}.real")

    def quantized(self, real: str, op: Op) -> str:
        """Rounded to uint8, within the bounds of `op`."""
        q = self.graph.node(
            "QuantizeLinear", [real, self.one(), self.zero(op.output)], f"{op.output}.q"
        )
        return self.clipped(q, op)

    def clipped(self, q: str, op: Op) -> str:
        """uint8 integers within the bounds of `op`."""
        levels = [op.attrs[key] + self.zero_point(op.output) for key in ("low", "high")]
        if levels == [0, 255]:
            return q
        bounds = [self.graph.const("bound", level, np.uint8) for level in levels]
        return self.graph.node("Clip", [q, *bounds], op.output)
