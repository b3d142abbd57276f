"""Write a Program op by op: names, dtypes and shapes are derived, scales are the caller's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from qatspec.ir import (
    RANGE,
    STORAGE,
    DType,
    Interval,
    Op,
    Overflow,
    Port,
    Provenance,
    Value,
    interval,
)
from qatspec.kinds import infer, op_range
from qatspec.program.model import Program
from qatspec.program.verify import check
from qatspec.types import Arithmetic

_LAYOUTS = {0: "N", 1: "NC", 2: "NCL", 3: "NCHW", 4: "NCDHW"}


def layout_of(shape: Sequence[int]) -> str:
    """The layout's name of a shape without its batch: "NCHW" for three dims."""
    return _LAYOUTS.get(len(shape), "N" + "D" * len(shape))


class ProgramBuilder:
    """Collects values and ops; `finish` verifies and freezes them."""

    def __init__(
        self, name: str, march: str | None = None, arithmetic: Arithmetic | None = None
    ) -> None:
        self.name, self.march = name, march
        self.arithmetic = arithmetic or Arithmetic()
        self.values: dict[str, Value] = {}
        self.consts: dict[str, np.ndarray] = {}
        self.ops: list[Op] = []
        self.inputs: list[Port] = []
        #: what every value can hold (qatspec.kinds.op_range)
        self.ranges: dict[str, Interval] = {}
        #: results that may leave their dtype; they are in no finished Program
        self.overflowing: list[str] = []

    def input(self, name: str, dtype: DType, shape: tuple[int, ...], scale: float) -> str:
        """Insert an input port and return the name of its value.

        shape: (C, H, W) or any other, without the batch. scale: of the whole tensor, with integers
        of `dtype`.
        """
        value = Value(
            name=self._fresh(name),
            dtype=dtype,
            shape=shape,
            scale=np.array([scale], np.float32),
        )
        self.values[value.name] = value
        self.ranges[value.name] = interval(*RANGE[dtype])
        self.inputs.append(_port(value))
        return value.name

    def const(self, name: str, dtype: DType, array: Any) -> str:
        """Insert the constant `array` of `dtype` and return the name of its value."""
        stored = np.ascontiguousarray(array, STORAGE[dtype])
        name = self._fresh(name)
        self.values[name] = Value(name=name, dtype=dtype, shape=stored.shape)
        self.consts[name] = stored
        self.ranges[name] = interval(int(stored.min()), int(stored.max()))
        return name

    def emit(
        self,
        kind: str,
        inputs: Sequence[str],
        *,
        name: str,
        scale: Any = None,
        scale_axis: int | None = None,
        origin: Provenance | None = None,
        **attrs: Any,
    ) -> str:
        """Insert an op and return the name of its result.

        kind        of the op, a name of qatspec.kinds; `attrs` are its attributes.
        inputs      names of its operands: values and constants.
        scale       float32 (1,), or (C,) along `scale_axis`; None: it is unknown.
        origin      the op of the model that it comes from.

        Raises Malformed where the op breaks its kind's rules, Overflow where its result may leave
        its dtype.
        """
        op = Op(
            kind=kind,
            inputs=tuple(inputs),
            output=self._fresh(name),
            attrs=attrs,
            origin=origin or Provenance(),
        )
        operands = [self.values[i] for i in inputs]
        dtype, shape = infer(op, operands, self.consts)
        self.values[op.output] = Value(
            name=op.output,
            dtype=dtype,
            shape=shape,
            scale=None if scale is None else np.atleast_1d(np.asarray(scale, np.float32)),
            axis=scale_axis,
        )
        self.ops.append(op)
        intervals = [self.ranges[i] for i in inputs]
        try:
            self.ranges[op.output] = op_range(op, intervals, operands[0].shape, self.consts)
        except Overflow:
            self.overflowing.append(op.output)
            raise
        return op.output

    def finish(self, outputs: Sequence[str], tree: Any = None) -> Program:
        """Return the Program with `outputs` as ports and without unused values.

        tree: how the outputs nest; None: a single output alone, several as a list. Raises
        DiagnosticError as `verify` does, and ValueError for an output that has no scale.
        """
        if tree is None:
            tree = 0 if len(outputs) == 1 else list(range(len(outputs)))
        ports = tuple(_port(self.values[name]) for name in outputs)
        return check(replace(self.part(outputs), outputs=ports, tree=tree))

    def part(self, values: Sequence[str]) -> Program:
        """Return the ops that compute `values`, and those that overflow, as a Program without
        outputs, which is not verified."""
        ops = self._used([*values, *self.overflowing])
        names = {p.name for p in self.inputs} | {op.output for op in ops}
        names |= {name for op in ops for name in op.inputs}
        return Program(
            name=self.name,
            march=self.march,
            arithmetic=self.arithmetic,
            inputs=tuple(self.inputs),
            outputs=(),
            values={n: v for n, v in self.values.items() if n in names},
            consts={n: c for n, c in self.consts.items() if n in names},
            ops=tuple(ops),
            tree=[],
        )

    def _used(self, outputs: Sequence[str]) -> list[Op]:
        wanted = set(outputs)
        kept = []
        for op in reversed(self.ops):
            if op.output in wanted:
                wanted.update(op.inputs)
                kept.append(op)
        return kept[::-1]

    def _fresh(self, name: str) -> str:
        if name not in self.values:
            return name
        count = 1
        while f"{name}_{count}" in self.values:
            count += 1
        return f"{name}_{count}"


def _port(value: Value) -> Port:
    if value.scale is None:
        raise ValueError(f"`{value.name}` has no scale")
    return Port(
        name=value.name,
        dtype=value.dtype,
        shape=value.shape,
        layout=layout_of(value.shape),
        scale=value.scale,
        axis=value.axis,
    )
