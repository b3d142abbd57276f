"""A Program as a TFLite file. Pictures, (C, H, W) in the Program, are (1, H, W, C) in the file;
other tensors keep the order of their dims behind a batch of 1. An unsigned 8-bit integer is written
as itself minus 128, with the zero point -128.

A sum (of a convolution, a product, a pool) is written with the requantization that reads it, as one
operator; what has no such form, or would round otherwise than the Program, is refused by name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from qatspec.api import Op, Program
from qatspec_litert.flatfile import FlatFile

TAIL = (
    "its int32 sums are an output of the model, and a TFLite file has 8-bit outputs",
    "set `quantize_output: true` on the quantized module that ends with it",
)


class NotHeldError(Exception):
    """The file cannot hold an op: the reason, and the way out ("": what fits any op)."""

    def __init__(self, reason: str, fix: str = "") -> None:
        super().__init__(reason)
        self.reason, self.fix = reason, fix


@dataclass(frozen=True, slots=True)
class Sums:
    """int32 sums that no operator has written yet. moves: the reshapes behind `op`."""

    op: Op
    moves: tuple[Op, ...] = ()


class Writer:
    """Writes a Program op by op.

    form     of its requantizations: double_high (reference kernels) or float32 (XNNPACK).
    refused  result of an op -> why the file cannot hold the op.
    """

    def __init__(self, program: Program, form: str, march: str) -> None:
        self.program, self.form, self.march = program, form, march
        self.file = FlatFile(program.name)
        self.tensors: dict[str, int] = {}
        self.sums: dict[str, Sums] = {}
        self.refused: dict[str, NotHeldError] = {}
        self.inputs = [self._port(port.name) for port in program.inputs]

    def write(self, kinds: Mapping[str, Callable[[Writer, Op], None]]) -> None:
        """Write every op, or note why not. kinds: how each kind is written."""
        failed: set[str] = set()
        for op in self.program.ops:
            if not failed.isdisjoint(op.inputs):
                failed.add(op.output)
                continue
            try:
                if op.kind not in kinds:
                    raise NotHeldError(f"{self.march} has no {op.kind}")
                kinds[op.kind](self, op)
            except NotHeldError as problem:
                self.refused[op.output] = problem
                failed.add(op.output)
        for port in self.program.outputs:
            if port.name in self.sums:
                self._refuse_tail(self.sums[port.name].op)

    def _refuse_tail(self, op: Op) -> None:
        """Refuse the op of sums that are an output; where they are joined, each of them."""
        if op.kind != "concat":
            self.refused[op.output] = NotHeldError(*TAIL)
            return
        for name in op.inputs:
            self._refuse_tail(self.sums[name].op)

    def encoded(self) -> bytes:
        """Return the file. Raises ImportError without ai-edge-litert."""
        outputs = [self.tensors[port.name] for port in self.program.outputs]
        return self.file.encoded(self.inputs, outputs)

    # -- reading -------------------------------------------------------------------------------

    def shape(self, name: str) -> tuple[int, ...]:
        """The Program's shape of a value, without the batch."""
        return self.program.values[name].shape

    def activations(self, op: Op) -> list[str]:
        """The operands that are no constants."""
        return [name for name in op.inputs if name not in self.program.consts]

    def const(self, name: str) -> np.ndarray:
        """A constant of the Program."""
        return self.program.consts[name]

    def scale(self, name: str) -> np.float32:
        """The one scale of a value. Raises NotHeldError where it has none or several."""
        scale = self.program.values[name].scale
        if scale is None or scale.size != 1:
            raise NotHeldError(f"`{name}` has no scale of its own")
        only: np.float32 = scale.astype(np.float32)[0]
        return only

    def small(self, name: str) -> int:
        """The number of an 8-bit tensor. Raises NotHeldError for any other."""
        dtype = self.program.values[name].dtype
        if name in self.sums:
            raise NotHeldError("it reads int32 sums that nothing has rounded to 8 bits")
        if dtype not in ("int8", "uint8"):
            raise NotHeldError(f"it reads {dtype}: {self.march} takes int8 and uint8")
        return self.tensors[name]

    def zero(self, name: str) -> int:
        """The integer that stands for 0 in the file."""
        return -128 if self.program.values[name].dtype == "uint8" else 0

    # -- writing -------------------------------------------------------------------------------

    def _port(self, name: str) -> int:
        value = self.program.values[name]
        shape = file_shape(value.shape)
        self.tensors[name] = self.file.tensor(name, shape, scale=value.scale, zero=self.zero(name))
        return self.tensors[name]

    def result(self, name: str, shape: Sequence[int] | None = None) -> int:
        """Add a tensor on the grid of the value `name`. shape: in the file, None: that of it."""
        value = self.program.values[name]
        if value.dtype not in ("int8", "uint8"):
            raise NotHeldError(f"it gives {value.dtype}: {self.march} has int8 and uint8")
        shape = file_shape(value.shape) if shape is None else shape
        return self.file.tensor(name, shape, scale=self.scale(name), zero=self.zero(name))

    def ints(self, name: str, data: Any) -> int:
        """Add a constant of int32: a shape, axes, padding."""
        array = np.asarray(data, np.int32)
        return self.file.tensor(name, array.shape, "int32", data=array)

    def level(self, of: str, value: int) -> int:
        """Add the constant `value`, an integer of the Program, on the grid of the value `of`."""
        zero = self.zero(of)
        data = np.array([value + zero], np.int8)
        return self.file.tensor(f"{of}.level", (1,), scale=self.scale(of), zero=zero, data=data)

    def shape_of(self, tensor: int) -> tuple[int, ...]:
        """The shape of a tensor in the file."""
        return self.file.tensors[tensor].shape

    def like(self, tensor: int, shape: Sequence[int], suffix: str) -> int:
        """Add a tensor on the grid of another one."""
        known = self.file.tensors[tensor]
        return self.file.tensor(
            f"{known.name}.{suffix}", shape, known.dtype, scale=known.scale, zero=known.zero
        )

    def reshaped(self, tensor: int, shape: Sequence[int], name: str) -> int:
        """The same integers in another shape of the file."""
        if self.shape_of(tensor) == tuple(shape):
            return tensor
        sizes = self.ints(f"{name}.shape", shape)
        made = self.like(tensor, shape, "reshaped")
        return self.file.op("RESHAPE", [tensor, sizes], made, newShape=list(shape))

    def permuted(self, tensor: int, order: Sequence[int], name: str) -> int:
        """The tensor with its dims in another order."""
        if list(order) == sorted(order):
            return tensor
        shape = [self.shape_of(tensor)[i] for i in order]
        made = self.like(tensor, shape, "permuted")
        return self.file.op("TRANSPOSE", [tensor, self.ints(f"{name}.order", order)], made)

    def in_order(self, tensor: int, shape: Sequence[int], name: str) -> int:
        """A tensor of the Program's `shape` with its dims in the Program's order."""
        if len(shape) != 3:
            return tensor
        channels, height, width = shape
        if channels == 1 or height * width == 1:  # one order in memory
            return self.reshaped(tensor, (1, *shape), name)
        return self.permuted(tensor, (0, 3, 1, 2), name)

    def in_layout(self, tensor: int, shape: Sequence[int], name: str) -> int:
        """The opposite of `in_order`."""
        if len(shape) != 3:
            return tensor
        channels, height, width = shape
        if channels == 1 or height * width == 1:
            return self.reshaped(tensor, file_shape(shape), name)
        return self.permuted(tensor, (0, 2, 3, 1), name)

    def moved(self, tensor: int, before: Sequence[int], after: Sequence[int], name: str) -> int:
        """Reshape a tensor of the Program's shape `before` to its shape `after`."""
        tensor = self.in_order(tensor, before, name)
        return self.in_layout(self.reshaped(tensor, (1, *after), name), after, name)

    def rounded(
        self, op: Op, kind: str, inputs: list[int], shape: Sequence[int], **options: Any
    ) -> int:
        """Write the operator `kind` that gives the result of the requantization `op`, of `shape` in
        the file, and its bounds: as an activation of the operator where it has one for them."""
        made = self.result(op.output, shape)
        low, high = op.attrs["low"], op.attrs["high"]
        name = None
        if kind not in ("QUANTIZE", "RESIZE_BILINEAR"):
            name = self._activation(op.output, low, high)
            options["fusedActivationFunction"] = name or 0
        self.file.op(kind, inputs, made, **options)
        return made if name is not None else self.clamped(op.output, made, low, high)

    def _activation(self, name: str, low: int, high: int) -> int | None:
        """The number of the activation NONE, RELU or RELU6 with these bounds; None: none has."""
        least, most = (0, 255) if self.program.values[name].dtype == "uint8" else (-128, 127)
        if (low, high) == (least, most):
            return 0
        if low == 0 and high == most:
            return 1
        six = float(np.float32(6.0) / self.scale(name))
        near = abs(six - np.floor(six) - 0.5) < 1e-3  # where kernels may round differently
        return 3 if low == 0 and not near and high == min(round(six), most) else None

    def clamped(self, name: str, tensor: int, low: int, high: int) -> int:
        """Bound the integers of a tensor on the grid of `name`."""
        least, most = (0, 255) if self.program.values[name].dtype == "uint8" else (-128, 127)
        for kind, bound, end in (("MAXIMUM", low, least), ("MINIMUM", high, most)):
            if bound != end:
                made = self.like(tensor, self.shape_of(tensor), kind.lower())
                tensor = self.file.op(kind, [tensor, self.level(name, bound)], made)
        return tensor


def file_shape(shape: Sequence[int]) -> tuple[int, ...]:
    """A shape of the Program, as it is in the file."""
    if len(shape) != 3:
        return (1, *shape)
    channels, height, width = shape
    return (1, height, width, channels)


def file_axis(axis: int, rank: int) -> int:
    """A dim of the Program's tensor, the batch counted, as it is in the file. rank: without the
    batch."""
    return {1: 3, 2: 1, 3: 2}[axis] if rank == 3 else axis


def size(shape: Sequence[int]) -> int:
    """How many numbers a tensor has."""
    return prod(shape)
