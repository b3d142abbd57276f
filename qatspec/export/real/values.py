"""Values of a Program as real numbers: an integer times its unit."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from qatspec.ir import Op, ProgramData
from qatspec.kinds import BYTES
from qatspec.kinds.emitter import Emitter
from qatspec.onnxgraph import GraphWriter

#: Two units that are this close count as one: 128 integers then differ by a 64th of one.
_NEGLIGIBLE = 2.0**-13


class Values(Emitter):
    """An emitter whose values have a real form, and those of 8 bits or less integers as well.

    is_unsigned     int8 and int4 are written as uint8.
    has_node_units  an op between a DequantizeLinear and a QuantizeLinear is alone there.

    units   value -> the real number of 1, float64 (1,) or (C,), and the axis of C.
    ints    value of 8 bits or less -> its ONNX integers.
    alone   sums -> the requantization that alone reads them, once.
    """

    def __init__(
        self,
        program: ProgramData,
        writer: GraphWriter,
        opset: int,
        unsigned: bool,
        node_units: bool = False,
    ) -> None:
        super().__init__(program, writer, opset)
        self.is_unsigned, self.has_node_units = unsigned, node_units
        self.units: dict[str, tuple[np.ndarray, int]] = {}
        self.ints: dict[str, str] = {}
        readers = Counter(name for op in program.ops for name in op.inputs)
        readers.update(port.name for port in program.outputs)
        self.alone = {
            name: op
            for op in program.ops
            if op.kind == "requant"
            for name in op.inputs[: len(op.inputs) // 2]
            if readers[name] == 1
        }

    def is_narrow(self, name: str) -> bool:
        """Return whether a value is held as integers of 8 bits."""
        return self.dtype(name) in BYTES

    def zero_point(self, name: str) -> int:
        """The ONNX integer that stands for 0 of a value of 8 bits or less."""
        return 128 if self.is_unsigned and self.dtype(name) in ("int8", "int4") else 0

    def begin(self, name: str, ints: str) -> None:
        """Take `ints` as the integers of an input of the Program."""
        self._set_unit(name)
        if self.is_narrow(name):
            self.ints[name] = ints
            return
        wide = self.graph.cast(ints, np.float32, f"{name}.float")
        self.names[name] = self._times(wide, name, *self.units[name])

    def real(self, name: str) -> str:
        """A value as float32."""
        if name not in self.names:
            names = [self.ints[name], *self._grid(name)]
            self.names[name] = self.graph.node("DequantizeLinear", names, f"{name}.real")
        return self.names[name]

    def x(self, op: Op, i: int = 0) -> str:
        return self.real(op.inputs[i])

    def result(self, name: str, scale: Any, axis: int | None) -> tuple[str, Any]:
        """What an output of the file is and its dtype: the integers of a value, or its real number
        in units of `scale`."""
        if self.is_narrow(name):
            unsigned = self.is_unsigned or self.dtype(name) == "uint8"
            return self.ints[name], np.uint8 if unsigned else np.int8
        wanted = np.ones(1) if scale is None else np.asarray(scale, np.float64)
        unit, along = self.units[name]
        factor = wanted / unit
        if np.abs(factor - 1).max() < 1e-6:
            return self.real(name), np.float32
        axis = axis if wanted.size > 1 and axis else along
        return self._times(self.real(name), name, factor, axis), np.float32

    def integers(self, name: str) -> str:
        """A value's integers as int32. They are computed from its real form: compilers refuse
        integers that are read as numbers and as themselves."""
        unit, axis = self.units[name]
        steps = self._times(self.real(name), name, 1 / unit, axis)
        steps = self.graph.node("Round", [steps], f"{name}.steps")
        return self.graph.cast(steps, np.int32, f"{name}.whole")

    def alias(self, name: str, other: str) -> None:
        """Take value `other` as value `name`, which holds the same integers in the same dims."""
        self.units[name] = self.units[other]
        for known in (self.names, self.ints):
            if other in known:
                known[name] = known[other]

    def keep(self, name: str, real: str, unit: np.ndarray | None = None, axis: int = 1) -> None:
        """Take `real` as the real form of a value. unit: of wide values, None: the value's own."""
        self._set_unit(name, unit, axis)
        if not self.is_narrow(name):
            self.names[name] = real
            return
        self.ints[name] = self.graph.node("QuantizeLinear", [real, *self._grid(name)], f"{name}.q")

    def rounded(self, name: str, real: str) -> str:
        """`real` on the grid of a value of 8 bits or less."""
        self._set_unit(name)
        grid = self._grid(name)
        ints = self.graph.node("QuantizeLinear", [real, *grid], f"{name}.rounded")
        return self.graph.node("DequantizeLinear", [ints, *grid], f"{name}.unclipped")

    def one(self, name: str) -> np.ndarray:
        """The unit of a value that has one number for all channels."""
        return self.units[name][0][:1]

    def shaped(self, name: str, numbers: np.ndarray, axis: int) -> np.ndarray:
        """One number a channel in the dims of a value, the batch first."""
        if numbers.size == 1:
            return numbers.reshape(())
        rank = len(self.shape(name)) + 1
        return numbers.reshape([-1 if d == axis else 1 for d in range(rank)])

    def in_unit(self, name: str, real: str, unit: np.ndarray, wanted: np.ndarray, axis: int) -> str:
        """`real`, a value of the shape of `name` of which 1 is `unit`, with 1 as `wanted`. Units
        that are as good as equal need no node."""
        factor = wanted / unit
        if np.abs(factor - 1).max() < _NEGLIGIBLE:
            return real
        return self._times(real, name, factor, axis)

    def _times(self, real: str, name: str, factor: np.ndarray, axis: int) -> str:
        number = self.graph.const(f"{name}.unit", self.shaped(name, factor, axis), np.float32)
        return self.graph.node("Mul", [real, number], f"{name}.scaled")

    def own_unit(self, name: str) -> tuple[np.ndarray, int]:
        """The scale that the Program states for a value, and its axis; 1 where it states none, and
        for integers of 8 bits that have several scales."""
        value = self.program.values[name]
        if value.scale is None or (self.is_narrow(name) and value.scale.size > 1):
            return np.ones(1), 1
        return np.asarray(value.scale, np.float64), value.axis or 1

    def _set_unit(self, name: str, unit: np.ndarray | None = None, axis: int = 1) -> None:
        if unit is None or self.is_narrow(name):
            unit, axis = self.own_unit(name)
        self.units[name] = (unit, axis)

    def _grid(self, name: str) -> list[str]:
        """Names of the scale and the zero point of a value of 8 bits or less."""
        scale, _ = self.units[name]
        dtype = np.uint8 if self.is_unsigned or self.dtype(name) == "uint8" else np.int8
        return [
            self.graph.const(f"{name}.scale", scale.reshape(()), np.float32),
            self.graph.const(f"{name}.zero_point", self.zero_point(name), dtype),
        ]
