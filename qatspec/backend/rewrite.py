"""A Program with other shapes: every op is emitted again, and constants are cut or repeated.

It is what a change of the network costs on the chip, so integers and scales mean nothing: the time
of a layer follows from its shapes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any

import numpy as np

from qatspec.diag import DiagnosticError
from qatspec.ir import RANGE, STORAGE, Op, Overflow, Value
from qatspec.kinds import Malformed, Trait, has
from qatspec.program import Program, ProgramBuilder


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What is changed of a Program. Layers are named by the value that they give.

    widths    output channels of an op with weights.
    groups    groups of a convolution.
    kernels   size of the kernel of a convolution; the padding follows.
    instead   (value that is read, "clamp" | "table" | "nothing"): what gives the value instead of
              the ops between, a clamp, a table or the value that is read itself.
    fused     (value that is read, convolution): a convolution becomes a dense one that reads this
              value with the kernel, stride and padding of that convolution; layers between go.
    size      rows and columns of the image.
    """

    widths: Mapping[str, int] = field(default_factory=dict)
    groups: Mapping[str, int] = field(default_factory=dict)
    kernels: Mapping[str, int] = field(default_factory=dict)
    instead: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    fused: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    size: tuple[int, int] | None = None

    def joined(self, other: Change) -> Change | None:
        """Return both changes at once, None where both change one layer."""
        parts: dict[str, Any] = {}
        for name in ("widths", "groups", "kernels", "instead", "fused"):
            mine, theirs = getattr(self, name), getattr(other, name)
            if mine.keys() & theirs.keys():
                return None
            parts[name] = {**mine, **theirs}
        if self.size and other.size:
            return None
        return Change(**parts, size=self.size or other.size)


class _Unchangeable(Exception):
    """The rest of the Program does not follow the change."""


def rewrite(program: Program, change: Change) -> Program | None:
    """Return `program` with `change`, or None where other ops do not take the shapes that it makes.

    Outputs keep their shapes unless the image's size changes.
    """
    try:
        return _Rewriter(program, change).run()
    except (Malformed, Overflow, DiagnosticError, _Unchangeable):
        return None


class _Rewriter:
    def __init__(self, program: Program, change: Change) -> None:
        self.program, self.change = program, change
        self.builder = ProgramBuilder(program.name, program.march, program.arithmetic)
        self.names: dict[str, str] = {}

    def run(self) -> Program:
        program, builder = self.program, self.builder
        for port in program.inputs:
            shape = port.shape
            if self.change.size and len(shape) == 3:
                shape = (shape[0], *self.change.size)
            scale = float(port.scale.reshape(-1)[0])
            self.names[port.name] = builder.input(port.name, port.dtype, shape, scale)
        for op in program.ops:
            self.names[op.output] = self._replaced(op)
        outputs = [self.names[port.name] for port in program.outputs]
        if not self.change.size:
            shapes = [builder.values[name].shape for name in outputs]
            if shapes != [port.shape for port in program.outputs]:
                raise _Unchangeable
        return builder.finish(outputs, program.tree)

    def _replaced(self, op: Op) -> str:
        if op.output not in self.change.instead:
            return self._again(op)
        source, by = self.change.instead[op.output]
        name, dtype = self.names[source], self.program.values[op.output].dtype
        value = self.builder.values[name]
        if value.dtype != dtype:
            raise _Unchangeable
        if by == "nothing":
            return name
        attrs: dict[str, Any] = {"low": 0, "high": RANGE[dtype][1]}
        inputs = [name]
        if by == "table":
            low, high = RANGE[dtype]
            inputs.append(self.builder.const("table", dtype, np.arange(low, high + 1)))
            attrs = {"dtype": dtype}
        kind = {"clamp": "clamp", "table": "lut"}[by]
        return self._emit(replace(op, origin=replace(op.origin, op="")), kind, inputs, attrs)

    def _again(self, op: Op) -> str:
        attrs = dict(op.attrs)
        if op.output in self.change.fused:
            return self._fused(op)
        inputs = [self.names.get(name, name) for name in op.inputs]
        now = self.builder.values[inputs[0]]
        before = self.program.values[op.inputs[0]]
        if has(op, Trait.WEIGHTED):
            return self._weighted(op, now, attrs)
        if now.shape != before.shape:
            self._follow(op, before.shape, now.shape, attrs)
        channels = self._dim(now.shape, attrs)
        old = self._dim(before.shape, attrs)
        constants = {
            name: self._const(name, (channels,) if shape == (old,) and old > 1 else shape)
            for name in op.inputs
            if name in self.program.consts
            for shape in [self.program.consts[name].shape]
        }
        return self._emit(
            op, op.kind, [constants.get(n) or self.names[n] for n in op.inputs], attrs
        )

    @staticmethod
    def _dim(shape: Sequence[int], attrs: Mapping[str, Any]) -> int:
        """The size along the attribute `axis`, 0 where there is none."""
        axis = attrs.get("axis")
        return shape[axis - 1] if axis is not None and 0 < axis <= len(shape) else 0

    def _follow(
        self, op: Op, before: Sequence[int], now: Sequence[int], attrs: dict[str, Any]
    ) -> None:
        """Change the attributes that hold a size of the operand."""
        if op.kind == "reshape":
            attrs["shape"] = _reshaped(before, now, tuple(attrs["shape"]))
        elif op.kind == "slice":
            axis = attrs["axis"] - 1
            if before[axis] != now[axis]:
                if axis == 0 or attrs["stop"] != before[axis]:
                    raise _Unchangeable
                attrs["stop"] = now[axis]
        elif has(op, Trait.RESIZES):
            pairs = zip(attrs["size"], before[1:], now[1:], strict=True)
            attrs["size"] = tuple(size * new // old for size, old, new in pairs)

    def _weighted(self, op: Op, now: Value, attrs: dict[str, Any]) -> str:
        change, weight = self.change, self.program.consts[op.inputs[1]].shape
        before = self.program.values[op.inputs[0]].shape
        if op.kind == "linear":
            out = change.widths.get(op.output, weight[0])
            shape: tuple[int, ...] = (out, now.shape[-1])
        else:
            channels, groups = now.shape[0], attrs["groups"]
            turned = has(op, Trait.INPUTS_FIRST)
            out = weight[1] * groups if turned else weight[0]
            if groups == before[0] and out % groups == 0 and op.output not in change.groups:
                out, groups = out // groups * channels, channels  # each channel alone
            out = change.widths.get(op.output, out)
            groups = change.groups.get(op.output, groups)
            if channels % groups or out % groups:
                raise _Unchangeable
            attrs["groups"] = groups
            kernel = weight[2:]
            if op.output in change.kernels:
                size = change.kernels[op.output]
                less = [(k - size) // 2 * d for k, d in zip(kernel, attrs["dilation"], strict=True)]
                attrs["padding"] = tuple(
                    p - c for p, c in zip(attrs["padding"], less * 2, strict=True)
                )
                kernel = (size, size)
                if min(attrs["padding"]) < 0:
                    raise _Unchangeable
            ends = (channels, out // groups) if turned else (out, channels // groups)
            shape = (*ends, *kernel)
        inputs = [self.names[op.inputs[0]], self._const(op.inputs[1], shape)]
        if len(op.inputs) > 2:
            inputs.append(self._const(op.inputs[2], (out,)))
        return self._emit(op, op.kind, inputs, attrs)

    def _fused(self, op: Op) -> str:
        source, by = self.change.fused[op.output]
        window = next(other for other in self.program.ops if other.output == by)
        channels = self.builder.values[self.names[source]].shape[0]
        out = self.program.values[op.output].shape[0]
        kernel = self.program.consts[window.inputs[1]].shape[2:]
        inputs = [self.names[source], self._const(op.inputs[1], (out, channels, *kernel))]
        inputs += [self._const(name, (out,)) for name in op.inputs[2:]]
        return self._emit(op, "conv", inputs, {**window.attrs, "groups": 1})

    def _const(self, name: str, shape: tuple[int, ...]) -> str:
        array, dtype = self.program.consts[name], self.program.values[name].dtype
        if array.shape != shape:
            grid = np.ix_(*(np.arange(n) % old for n, old in zip(shape, array.shape, strict=True)))
            array = array[grid]
        return self.builder.const(name, dtype, array.astype(STORAGE[dtype], copy=False))

    def _emit(self, op: Op, kind: str, inputs: Sequence[str], attrs: Mapping[str, Any]) -> str:
        value = self.program.values[op.output]
        scale, axis = value.scale, value.axis
        if scale is not None and scale.size > 1:
            scale, axis = scale[:1], None
        return self.builder.emit(
            kind, inputs, name=op.output, scale=scale, scale_axis=axis, origin=op.origin, **attrs
        )


def _reshaped(before: Sequence[int], now: Sequence[int], shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape that a reshape makes of other dims: one that flattens dims flattens them still."""
    if prod(now) == prod(shape):
        return shape
    for count in range(len(before)):
        if shape == (*before[:count], prod(before[count:])):
            return (*now[:count], prod(now[count:]))
    raise _Unchangeable
