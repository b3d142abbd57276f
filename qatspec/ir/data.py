"""The data of a Program: values, ops, ports. Layout is NCHW (or N followed by any dims).

Dimension 0 is the batch and symbolic: shapes here leave it out. Every op is defined by integers
alone. Operand order is `Op.inputs`; constants are values too (`ProgramData.consts`). What each kind
of op takes, gives and computes is a record of `qatspec.kinds`; its meaning is
`qatspec.referee`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from qatspec.types import Arithmetic

DType = Literal["int4", "int8", "uint8", "int16", "int32", "int64"]

#: (lowest, highest) of each dtype.
RANGE: dict[str, tuple[int, int]] = {
    "int4": (-8, 7),
    "int8": (-128, 127),
    "uint8": (0, 255),
    "int16": (-32768, 32767),
    "int32": (-(2**31), 2**31 - 1),
    "int64": (-(2**63), 2**63 - 1),
}

#: numpy storage of each dtype (int4 is stored in int8, one value a byte).
STORAGE: dict[str, type[np.integer[Any]]] = {
    "int4": np.int8,
    "int8": np.int8,
    "uint8": np.uint8,
    "int16": np.int16,
    "int32": np.int32,
    "int64": np.int64,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """Where an op came from: module path, fx node, model source "file:line", rule pointer; op: the
    canonical name of the model's op ("softmax"), of which several integer ops may be made."""

    module: str = ""
    node: str = ""
    source: str = ""
    rule: str = ""
    op: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    """A value in static single assignment form.

    name   unique in the Program; dtype: of its integers; shape: without the batch.
    scale  float32 (1,), or (C,) along `axis`, counted with the batch; None where a value has no
           real meaning of its own (constants of a requant).
    """

    name: str
    dtype: DType
    shape: tuple[int, ...]
    scale: np.ndarray | None = None
    axis: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Op:
    """One integer op; it defines exactly one value, `output`.

    kind    a name of qatspec.kinds, which defines what the op computes.
    inputs  names of the operands: values and constants. attrs: attributes of the kind.
    origin  the line of the model and of the spec that it comes from.
    """

    kind: str
    inputs: tuple[str, ...]
    output: str
    attrs: Mapping[str, Any] = field(default_factory=dict)
    origin: Provenance = field(default_factory=Provenance)


@dataclass(frozen=True, slots=True, kw_only=True)
class Port:
    """An input or output of a Program (rule: typed ports).

    name    of the value; dtype: of its integers; shape: without the batch; layout: such as "NCHW".
    scale   float32 (1,), or (C,) along `axis`, counted with the batch; zero_point: 0.
    """

    name: str
    dtype: DType
    shape: tuple[int, ...]
    layout: str
    scale: np.ndarray
    axis: int | None = None
    zero_point: int = 0

    def quantize(self, x: np.ndarray) -> np.ndarray:
        """Compute round-half-even(float32(x) / float32(scale)), saturated (rule: exact rounding).
        Returns integers of the shape of `x`."""
        low, high = RANGE[self.dtype]
        with np.errstate(over="ignore"):  # infinity saturates as well
            scaled = np.asarray(x, np.float32) / self._broadcast(np.asarray(x).ndim)
        return np.asarray(np.clip(np.rint(scaled), low, high), STORAGE[self.dtype])

    def dequantize(self, q: np.ndarray) -> np.ndarray:
        """Compute float32(q) * float32(scale) (rule: exact rounding). Returns float32 of the shape
        of `q`."""
        return np.asarray(q.astype(np.float32) * self._broadcast(q.ndim))

    def _broadcast(self, ndim: int) -> np.ndarray:
        if self.axis is None:
            return self.scale.reshape(())
        return self.scale.reshape([-1 if d == self.axis else 1 for d in range(ndim)])


@dataclass(frozen=True, kw_only=True, eq=False)
class IntegerModel(ABC):
    """The interface of a Program, an artifact and an ONNX runner. run() takes and returns integers.

    image: how pictures become the real inputs (qatspec.spec.preprocessing), where the file records
    it; else None.
    """

    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    image: Mapping[str, Any] | None = None

    @property
    def real_inputs(self) -> tuple[Port, ...]:
        """The ports whose real numbers `quantize` takes."""
        return self.inputs

    def quantize(self, *floats: np.ndarray) -> list[np.ndarray]:
        """Round images to the grids of the input ports.

        floats: an array for each port, float32 (N, ...) on the scale that the model takes. Returns
        integer arrays of the same shapes. Raises ValueError on a wrong count.
        """
        return [p.quantize(x) for p, x in zip(self.inputs, floats, strict=True)]

    @abstractmethod
    def run(self, *ints: np.ndarray) -> list[np.ndarray]:
        """Compute the outputs in integers.

        ints: an array (N, ...) for each input port, in its dtype. Returns an array (N, ...) for
        each output port, in their order.
        """

    def dequantize(self, ints: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return the real numbers float32 (N, ...) for which `ints`, arrays of the output ports,
        stand."""
        return [p.dequantize(q) for p, q in zip(self.outputs, ints, strict=True)]


@dataclass(frozen=True, kw_only=True, eq=False)
class ProgramData(IntegerModel):
    """values by name (inputs, constants and op results); ops in execution order.

    tree: how the flat outputs nest ("[[0,1],[2,3]]" as JSON lists and dicts of output indexes), so
    that a model's predict() gets the structure that its forward returns.
    """

    name: str
    march: str | None
    arithmetic: Arithmetic
    values: Mapping[str, Value]
    consts: Mapping[str, np.ndarray]
    ops: tuple[Op, ...]
    tree: Any = None
