"""Writing the Program: ops, requantizations, and the one place that knows where a batch is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import numpy as np
from torch import fx

from qatspec.graph.context import GraphContext
from qatspec.ir import RANGE, DType, Overflow, Provenance
from qatspec.kinds import SMALL, Malformed
from qatspec.lower.layout import PLAIN, AcrossBatch, Layout
from qatspec.lower.operands import Target, Unlowerable
from qatspec.program import ProgramBuilder
from qatspec.program.lowered import Sum, Term
from qatspec.program.requantize import multipliers

_KEEP_BATCH = (
    "keep the batch as the first dim here; where the example has a batch of one, give it two: they "
    "tell the batch from other dims of size 1"
)


class Emitting:
    """What a handler writes with, in dims of the real tensors: `emit` finds the value's axes.

    builder: the Program so far. node: the node being lowered. whole: the grid of tensors of whole
    numbers, which no fake-quant is on.
    """

    whole = Target(1.0, "int32")

    def __init__(
        self,
        builder: ProgramBuilder,
        context: GraphContext,
        origin: Callable[[fx.Node], Provenance],
    ) -> None:
        self.builder, self.context = builder, context
        self._origin = origin
        self._layouts: dict[str, Layout] = {}  # of the values that are not plain
        self.node: fx.Node

    def fail(self, reason: str, help_: str | None = None, code: str = "QS701") -> NoReturn:
        """This node cannot be lowered, for `reason`; `help_` says what to do."""
        raise Unlowerable(code, reason, help_)

    def across(self, problem: AcrossBatch) -> NoReturn:
        """This node cannot be lowered, because of where the batch is."""
        self.fail(str(problem), _KEEP_BATCH)

    def dtype(self, term: Term) -> DType:
        return self.builder.values[term.value].dtype

    def layout(self, term: Term) -> Layout:
        """Where the tensor that `term` is part of has its batch."""
        return self._layouts.get(term.value, PLAIN)

    def const(self, suffix: str, dtype: DType, array: Any) -> str:
        """A constant named after this node."""
        return self.builder.const(f"{self.node.name}.{suffix}", dtype, array)

    def emit(
        self,
        kind: str,
        inputs: Sequence[str],
        scale: Any,
        *,
        scale_axis: int | None = None,
        name: str | None = None,
        **attrs: Any,
    ) -> Sum:
        """An op whose result has `scale`, as a Sum of one term. scale_axis (of the result), and the
        attributes axis, axes and perm, count the dims of the real tensor; shape is what follows its
        first dim."""
        layout = self._common(inputs)
        if layout.plain:
            return self.write(kind, inputs, scale, PLAIN, axis_of=scale_axis, name=name, **attrs)
        uniform = kind == "requant" and not any(
            self.builder.consts[n].size > 1 for n in inputs if n in self.builder.consts
        )
        if uniform:
            del attrs["axis"]
        shape = self.builder.values[inputs[0]].shape
        try:
            layout, attrs = layout.placed(kind, attrs, shape)
            axis = None if scale_axis is None else layout.axis(scale_axis)
        except AcrossBatch as problem:
            self.across(problem)
        if uniform:
            attrs["axis"] = 1  # one multiplier for all: any will do
        return self.write(kind, inputs, scale, layout, axis_of=axis, name=name, **attrs)

    def write(
        self,
        kind: str,
        inputs: Sequence[str],
        scale: Any,
        layout: Layout,
        *,
        axis_of: int | None = None,
        name: str | None = None,
        **attrs: Any,
    ) -> Sum:
        """`emit` in axes of the values: for what moves the batch. layout: the result's. axis_of:
        the axis that `scale` lies along."""
        scale = np.atleast_1d(np.asarray(scale, np.float64))
        with np.errstate(over="ignore", under="ignore"):
            real = scale.astype(np.float32)
        try:
            value = self.builder.emit(
                kind,
                inputs,
                name=name or self.node.name,
                scale=real if (np.isfinite(real) & (real > 0)).all() else None,
                scale_axis=axis_of,
                origin=self._origin(self.node),
                **attrs,
            )
        except Overflow as problem:
            raise Unlowerable("QS704", str(problem), "use fewer bits for this module") from problem
        except Malformed as problem:
            raise Unlowerable("QS701", f"it has no integer form: {problem}") from problem
        if not layout.plain:
            self._layouts[value] = layout
        return Sum((Term(value, scale, None if axis_of is None else layout.dim(axis_of)),))

    def keep(self, kind: str, term: Term, **attrs: Any) -> Sum:
        """An op that moves integers and leaves scale and axis as they are."""
        return self.emit(kind, (term.value,), term.scale, scale_axis=term.axis, **attrs)

    def quantize(self, x: Sum, target: Target, name: str | None = None) -> Sum:
        """Close `x`: integers of the target's dtype and scale, in one requant at most."""
        low, high = RANGE[target.dtype]
        low, high = (int(v) for v in np.clip(grid((x.low, x.high), target.scale), low, high))
        same = (
            len(x.terms) == 1
            and self.settled(x.terms[0])
            and self.dtype(x.terms[0]) == target.dtype
            and np.float32(x.terms[0].step) == np.float32(target.scale)
        )
        if same and (low, high) == RANGE[target.dtype]:
            return Sum(x.terms)
        if same:
            return self.keep("clamp", x.terms[0], name=name, low=low, high=high)
        axis = self.axis(x)
        ms, shift = multipliers(
            [t.scale / float(np.float32(target.scale)) for t in x.terms],
            [self.builder.ranges[t.value] for t in x.terms],
            self.builder.arithmetic.multiplier_bits,
            axis,
        )
        rounding = self.builder.arithmetic.rounding
        return self.requant(
            x, ms, shift, target, name=name, axis=axis, rounding=rounding, low=low, high=high
        )

    def requant(
        self,
        x: Sum,
        ms: Sequence[np.ndarray],
        shift: np.ndarray,
        target: Target,
        *,
        name: str | None = None,
        **attrs: Any,
    ) -> Sum:
        """round(sum of x's terms, each times its m, >> shift) on the target's grid. ms, shift:
        int64 (1,) or (C,) along the value's axis `axis`; rounding, low, high: as in a requant."""
        operands = [t.value for t in x.terms]
        layout = self._common(operands)
        operands += [self.const(f"m{i}", "int64", m) for i, m in enumerate(ms)]
        operands.append(self.const("shift", "int64", shift))
        return self.write(
            "requant", operands, target.scale, layout, name=name, dtype=target.dtype, **attrs
        )

    def axis(self, x: Sum) -> int:
        """The value's axis along which the terms of `x` have scales of their own; 1 where each has
        one alone."""
        dims = {t.axis for t in x.terms if t.axis is not None}
        if len(dims) > 1:
            self.fail("it adds tensors whose channels lie along different dims")
        try:
            return self._common([t.value for t in x.terms]).axis(dims.pop()) if dims else 1
        except AcrossBatch as problem:
            self.across(problem)

    def settled(self, term: Term) -> bool:
        """Is it small integers with one positive scale?"""
        return self.dtype(term) in SMALL and term.scale.size == 1 and term.step > 0

    def _common(self, inputs: Sequence[str]) -> Layout:
        """The layout of all operands that are no constants of the op."""
        names = [name for name in inputs if name not in self.builder.consts]
        layouts = [self._layouts.get(name, PLAIN) for name in names]
        if any(layout != layouts[0] for layout in layouts):
            self.fail("its operands have the batch in different dims", _KEEP_BATCH)
        return layouts[0]


def grid(real: Any, scale: float) -> np.ndarray:
    """Real numbers as integers, rounded as a fake-quant rounds (rule: exact rounding)."""
    with np.errstate(over="ignore"):
        return np.asarray(np.rint(np.asarray(real, np.float32) / np.float32(scale)))
