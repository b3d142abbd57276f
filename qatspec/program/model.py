"""Program: SSA of integers, the exact arithmetic of the chip.

Layout is NCHW (or N followed by any dims); dimension 0 is the batch and symbolic: shapes here
leave it out. Every op is defined by integers alone. Operand order is `inputs`; constants are
values too (`consts`). Kinds:

conv             x, w (O, I/g, kh, kw) int8|int16|int4, [b (O) int32] -> int32. attrs: stride
                 (2), padding (top, left, bottom, right), dilation (2), groups. Pads with 0.
conv_transpose   x, w (I, O/g, kh, kw), [b] -> int32. attrs: stride, padding (4), output_padding
                 (2), dilation, groups.
linear           x (..., I), w (O, I), [b (O)] -> int32.
requant          x1..xn, m1..mn, shift: clamp(round(sum_i xi * mi  >>  shift), low, high). mi and
                 shift are int64 consts of shape (1,) or (C,) along attrs["axis"]. attrs: dtype,
                 axis, rounding ("half_up": floor(v / 2^s + 1/2); "half_even"; "floor"), low, high.
                 Serves requantization, elementwise add and sub, the residual fused into a conv,
                 relu and relu6 (low, high): one rounding at the end.
mul              x, y -> int32 product, broadcast over trailing dims.
clamp            x -> same dtype. attrs: low, high.
max_pool         x -> same. attrs: kernel (2), stride (2), padding (4), dilation (2); pads with the
                 dtype's lowest.
sum_pool         x -> int32. attrs: kernel, stride, padding (4); pads with 0.
reduce_sum       x -> int32. attrs: axes (dims counted with the batch), keepdim.
reduce_max       x -> same. attrs: axes, keepdim.
resize_nearest   x -> same. attrs: size (2); source index floor(i * in / out).
resize_bilinear  x -> int32. attrs: size, align_corners, bits (f): the weights are integers of f
                 fractional bits per axis, the sum carries scale 2^(2f).
concat           x1..xn -> same. attrs: axis.
reshape          x -> same. attrs: shape (without the batch).
transpose        x -> same. attrs: perm (with the batch, perm[0] == 0).
slice            x -> same. attrs: axis, start, stop, step.
pad              x -> same. attrs: padding (top, left, bottom, right), value (int).
lut              x, table -> attrs["dtype"]: table[x - lowest(x.dtype)]; int8 tables have 256.
matmul           x (..., M, K), y (..., K, N) of one rank -> int32; the dims before broadcast.
exp_below_max    x, table -> attrs["dtype"]: table[max(x along axis) - x], the numerators of a
                 softmax; table as lut's. attrs: axis.
divide           x, y, broadcast: clamp(round(x * multiplier / (y * 2^shift)), low, high). What is
                 divided by 0 is as large as it gets; 0 / 0 is 0. attrs: dtype, multiplier, shift,
                 rounding, low, high.
standardize      x -> int32: with n integers along axes, sum S and u = n * x - S, it is
                 floor(u * 2^(bits + root_bits) / r + 1/2), where r = floor(sqrt((v + epsilon) *
                 4^root_bits)), at least 1, of n^2 times their variance v = n * sum(x^2) - S^2: a
                 norm over the input's own statistics, in 2^-bits. attrs: axes, epsilon, bits,
                 root_bits.
affine           x, w (C) int8, b (C) int32 -> int32: x * w[c] + b[c] along attrs["axis"].
argmax           x -> int32: the first place of the largest. attrs: axis, keepdim.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from qatspec.types import Arithmetic

if TYPE_CHECKING:
    from qatspec.program.executor import Executor

DType = Literal["int4", "int8", "int16", "int32", "int64"]

#: (lowest, highest) of each dtype.
RANGE: dict[str, tuple[int, int]] = {
    "int4": (-8, 7),
    "int8": (-128, 127),
    "int16": (-32768, 32767),
    "int32": (-(2**31), 2**31 - 1),
    "int64": (-(2**63), 2**63 - 1),
}

#: numpy storage of each dtype (int4 is stored in int8, one value a byte).
STORAGE: dict[str, type[np.signedinteger[Any]]] = {
    "int4": np.int8,
    "int8": np.int8,
    "int16": np.int16,
    "int32": np.int32,
    "int64": np.int64,
}

#: The same of ports, which may also be a camera's bytes. No value of a Program is unsigned.
PORT_RANGE: dict[str, tuple[int, int]] = {**RANGE, "uint8": (0, 255)}
PORT_STORAGE: dict[str, type[np.integer[Any]]] = {**STORAGE, "uint8": np.uint8}


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
    """An SSA value. shape without the batch; scale float32 (1,) or (C,) along `axis` (counted
    with the batch), None where a value has no real meaning of its own (requant constants)."""

    name: str
    dtype: DType
    shape: tuple[int, ...]
    scale: np.ndarray | None = None
    axis: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Op:
    """One integer op; it defines exactly one value, `output`."""

    kind: str
    inputs: tuple[str, ...]
    output: str
    attrs: Mapping[str, Any] = field(default_factory=dict)
    origin: Provenance = field(default_factory=Provenance)


@dataclass(frozen=True, slots=True, kw_only=True)
class Port:
    """A door of the Program (contracts 19). shape without the batch; layout "NCHW" and so on;
    scale float32 (1,) or (C,) along axis; zero point is 0. dtype: uint8 only where a compiled file
    is fed frames (`Artifact.runtime_input`), whose real numbers are the pixels themselves."""

    name: str
    dtype: DType | Literal["uint8"]
    shape: tuple[int, ...]
    layout: str
    scale: np.ndarray
    axis: int | None = None
    zero_point: int = 0

    def quantize(self, x: np.ndarray) -> np.ndarray:
        """round-half-even(float32(x) / float32(scale)), saturated (contracts 12)."""
        low, high = PORT_RANGE[self.dtype]
        with np.errstate(over="ignore"):  # infinity saturates as well
            scaled = np.asarray(x, np.float32) / self._broadcast(np.asarray(x).ndim)
        return np.asarray(np.clip(np.rint(scaled), low, high), PORT_STORAGE[self.dtype])

    def dequantize(self, q: np.ndarray) -> np.ndarray:
        """float32(q) * float32(scale)."""
        return np.asarray(q.astype(np.float32) * self._broadcast(q.ndim))

    def _broadcast(self, ndim: int) -> np.ndarray:
        if self.axis is None:
            return self.scale.reshape(())
        return self.scale.reshape([-1 if d == self.axis else 1 for d in range(ndim)])


@dataclass(frozen=True, kw_only=True, eq=False)
class Ported(ABC):
    """What has ports: a Program, an Artifact, an ONNX runner. run() takes and gives integers."""

    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]

    @property
    def real_inputs(self) -> tuple[Port, ...]:
        """The ports whose real numbers `quantize` takes."""
        return self.inputs

    def quantize(self, *floats: np.ndarray) -> list[np.ndarray]:
        """Real images in, integers of the input ports out. Raises ValueError on a wrong count."""
        return [p.quantize(x) for p, x in zip(self.inputs, floats, strict=True)]

    @abstractmethod
    def run(self, *ints: np.ndarray) -> list[np.ndarray]:
        """Integers of the input ports in, integers of the output ports out, in order."""

    def dequantize(self, ints: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Integers of the output ports to real numbers."""
        return [p.dequantize(q) for p, q in zip(self.outputs, ints, strict=True)]


@dataclass(frozen=True, kw_only=True, eq=False)
class Program(Ported):
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

    def run(self, *ints: np.ndarray) -> list[np.ndarray]:
        """Run on the fast executor, which equals `interpret` integer for integer."""
        return self._executor.run(ints)

    @cached_property
    def _executor(self) -> Executor:
        """Built at the first run. It refers to the program, so only the program may own it."""
        from qatspec.program.executor import Executor

        return Executor(self)

    def to_bytes(self) -> bytes:
        """The program's file; equal programs give equal bytes."""
        from qatspec.program.serde import to_bytes

        return to_bytes(self)

    @classmethod
    def from_bytes(cls, data: bytes) -> Program:
        """What `to_bytes` gave, verified. Raises Damaged, or DiagnosticError (QS711)."""
        from qatspec.program.serde import from_bytes

        return from_bytes(data)
