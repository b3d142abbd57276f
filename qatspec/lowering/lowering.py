"""The state of lowering, which a handler's `lower(node, lowering)` is given.

A handler reads its operands with `value`, `small_integers` or `single_term`, emits ops, and returns
ScaledInts, a PendingSum, or a list of them for ops with several results. It raises through `fail`
what it cannot lower. All its dims are those of the model's tensors, wherever these have their batch
(qatspec.lowering.batch_dim).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor, fx

from qatspec.diag import Code
from qatspec.diag.codes import QS701, QS702, QS703, QS704, QS706
from qatspec.graph.context import GraphContext
from qatspec.ir import RANGE, DType, Overflow, Provenance
from qatspec.kinds import SMALL, Malformed
from qatspec.lowering.batch_dim import BATCH_FIRST, AcrossBatch, BatchDim
from qatspec.lowering.integer_tensors import is_integer_tensor
from qatspec.lowering.operands import (
    INTEGERS,
    Constant,
    FailedOperand,
    Grid,
    RealInput,
    Unlowerable,
    levels_of,
)
from qatspec.lowering.pending import PendingSum, ScaledInts, pending
from qatspec.program import ProgramBuilder
from qatspec.program.requantize import multipliers


class Lowering:
    """The state of lowering one traced graph. `node` is the one being lowered.

    builder    the Program so far.
    context    the graph, its modules and example values.
    lowered    node -> PendingSum, list of them, RealInput, or None where lowering failed.
    constants  node -> Constant, for what depends on no input; never in `lowered`.
    host       nodes that are not lowered, because they run on the host (qatspec.lower.split).
    """

    def __init__(
        self,
        builder: ProgramBuilder,
        context: GraphContext,
        origin: Callable[[fx.Node], Provenance],
        grid: Callable[[fx.Node], Grid | None],
    ) -> None:
        self.builder, self.context = builder, context
        self._origin, self._grid = origin, grid
        self._batch_dims: dict[str, BatchDim] = {}  # by value, where the batch is not the first dim
        self.node: fx.Node
        self.lowered: dict[fx.Node, Any] = {}
        self.constants: dict[fx.Node, Constant] = {}
        self.host: frozenset[fx.Node] = frozenset()

    # -- refusing ------------------------------------------------------------------------------

    def fail(self, reason: str, help_: str | None = None, code: Code = QS701) -> NoReturn:
        """Refuse to lower this node, for `reason`; `help_` says what to do. Raises Unlowerable."""
        raise Unlowerable(code, reason, help_)

    # -- reading -------------------------------------------------------------------------------

    def shape(self, node: Any = None) -> tuple[int, ...]:
        """The shape of a node's tensor with the batch; of this node by default."""
        return self.context.shape(self.node if node is None else node)

    def value_shape(self, x: ScaledInts | PendingSum) -> tuple[int, ...]:
        """Return the shape of the Program's value, without the batch; terms of a sum agree."""
        return self.builder.values[pending(x).terms[0].value].shape

    def dtype(self, x: ScaledInts) -> DType:
        """Return the integer type of a value of the Program."""
        return self.builder.values[x.value].dtype

    def batch_dim(self, x: ScaledInts | PendingSum) -> BatchDim:
        """Return which dim of the tensor holds the batch; the terms of a sum agree."""
        return self._batch_dims.get(pending(x).terms[0].value, BATCH_FIRST)

    def is_tensor(self, node: Any) -> bool:
        """Return whether a value is the result of an op, not a parameter or a Python value."""
        return isinstance(node, fx.Node) and node in self.lowered

    def constant(self, node: Any) -> Any:
        """The Python value or parameter tensor of an argument that is no result of an op."""
        if not isinstance(node, fx.Node):
            return node
        known = self.constants.get(node)
        return self.context.value(node) if known is None else known.value

    def value(self, node: Any) -> PendingSum:
        """Return an operand before any rounding. Fails for an input that is not quantized."""
        found = self._read(node)
        if isinstance(found, RealInput):
            self.fail(
                f"it reads the input `{found.name}` before any quantization",
                "prepare the first module with quantize_input: true, leave it out of "
                "`non_traceable_module_name` and `non_traceable_module_class`, and move float "
                "pre-processing in front of the model",
                QS706,
            )
        if not isinstance(found, PendingSum):
            self.fail(
                "its operand is a list of tensors where one is needed",
                "take them apart: values, places = x.max(1)",
            )
        return found

    def values(self, node: Any) -> list[PendingSum]:
        """An operand that is a list of tensors."""
        found = [self.value(n) for n in node] if isinstance(node, (list, tuple)) else None
        found = self._read(node) if found is None else found
        if not isinstance(found, list):
            self.fail("its operand is one tensor where a list is needed")
        return found

    def single_term(self, operand: Any) -> ScaledInts:
        """Return an operand as one tensor of integers without bounds, which has one scale or one
        for each channel. It may be an int32 accumulator."""
        found = operand if isinstance(operand, PendingSum) else self.value(operand)
        if len(found.terms) == 1 and found.bounded and self.is_small(found.terms[0]):
            return self._clamp(found)
        if len(found.terms) != 1 or found.bounded or (found.terms[0].scale <= 0).any():
            self._unquantized(operand)
        return found.terms[0]

    def small_integers(self, operand: Any) -> ScaledInts:
        """Return an operand as integers of 4, 8 or 16 bits with one positive scale."""
        found = operand if isinstance(operand, PendingSum) else self.value(operand)
        if len(found.terms) != 1 or not self.is_small(found.terms[0]):
            self._unquantized(operand)
        return self._clamp(found) if found.bounded else found.terms[0]

    def is_small(self, x: ScaledInts) -> bool:
        """Return whether a term has integers of 4, 8 or 16 bits and one positive scale."""
        return self.dtype(x) in SMALL and x.scale.size == 1 and x.step > 0

    def grid(self, node: fx.Node | None = None) -> Grid | None:
        """Return the grid of the fake-quant behind a node (this one by default); None for an output
        that nothing quantizes."""
        return self._grid(self.node if node is None else node)

    def required_grid(self, what: str) -> Grid:
        """Return `grid()` of this node. Fails where nothing quantizes its result; `what` names what
        computes it ("a table"), which gives no int32 output."""
        grid = self.grid()
        if grid is None:
            self.fail(
                f"nothing quantizes its result, and {what} has no int32 tail",
                "set quantize_output: true, or move this op into `predict`",
                QS703,
            )
        return grid

    def _read(self, node: Any) -> Any:
        if isinstance(node, fx.Node) and node in self.constants:
            known = self.constants[node]
            return pending(self.tensor(known.value, known.grid))
        if not isinstance(node, fx.Node) or node not in self.lowered:
            self.fail("its operand is a number where a tensor of the model is needed")
        found = self.lowered[node]
        if found is None:
            raise FailedOperand
        return found

    def _unquantized(self, operand: Any) -> NoReturn:
        name = f" `{operand.name}`" if isinstance(operand, fx.Node) else ""
        self.fail(
            f"its operand{name} is not quantized to one scale",
            "quantize the op before it: remove the rule that leaves it in float, or set "
            "quantize_output: true on its module",
            QS702,
        )

    def _clamp(self, x: PendingSum) -> ScaledInts:
        """Return one bounded term of small integers, clamped on its own grid."""
        term = x.terms[0]
        return self.quantize(x, Grid(term.step, self.dtype(term)))

    # -- writing -------------------------------------------------------------------------------

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
    ) -> ScaledInts:
        """An op whose result has `scale`. scale_axis (of the result), and the attributes axis, axes
        and perm, count the dims of the model's tensor; shape is what follows its first dim."""
        dim = self.common_batch_dim(inputs)
        if dim.is_first:
            return self.emit_value_axes(
                kind, inputs, scale, BATCH_FIRST, scale_axis=scale_axis, name=name, **attrs
            )
        uniform = kind == "requant" and not any(
            self.builder.consts[n].size > 1 for n in inputs if n in self.builder.consts
        )
        if uniform:
            del attrs["axis"]
        shape = self.builder.values[inputs[0]].shape
        dim, attrs = dim.placed(kind, attrs, shape)
        axis = None if scale_axis is None else dim.axis(scale_axis)
        if uniform:
            attrs["axis"] = 1  # one multiplier for all: any will do
        return self.emit_value_axes(kind, inputs, scale, dim, scale_axis=axis, name=name, **attrs)

    def emit_same_scale(self, kind: str, x: ScaledInts, **attrs: Any) -> ScaledInts:
        """An op that moves integers and leaves scale and axis as they are."""
        return self.emit(kind, (x.value,), x.scale, scale_axis=x.axis, **attrs)

    def emit_value_axes(
        self,
        kind: str,
        inputs: Sequence[str],
        scale: Any,
        dim: BatchDim,
        *,
        scale_axis: int | None = None,
        name: str | None = None,
        **attrs: Any,
    ) -> ScaledInts:
        """Emit an op as `emit` does, in axes of the Program's values, for what moves the batch.

        dim: where the result has its batch. Raises Unlowerable: QS704 where the integers overflow,
        QS701 where the op has no integer form.
        """
        scale = np.atleast_1d(np.asarray(scale, np.float64))
        with np.errstate(over="ignore", under="ignore"):
            real = scale.astype(np.float32)
        try:
            value = self.builder.emit(
                kind,
                inputs,
                name=name or self.node.name,
                scale=real if (np.isfinite(real) & (real > 0)).all() else None,
                scale_axis=scale_axis,
                origin=self._origin(self.node),
                **attrs,
            )
        except Overflow as problem:
            raise Unlowerable(QS704, str(problem), "use fewer bits for this module") from problem
        except Malformed as problem:
            raise Unlowerable(QS701, f"it has no integer form: {problem}") from problem
        if not dim.is_first:
            self._batch_dims[value] = dim
        return ScaledInts(value, scale, None if scale_axis is None else dim.dim(scale_axis))

    def quantize(
        self, x: PendingSum | ScaledInts, grid: Grid, name: str | None = None
    ) -> ScaledInts:
        """Round `x` to `grid`, in one requant at most."""
        x = pending(x)
        first = x.terms[0]
        low, high = RANGE[grid.dtype]
        low, high = (int(v) for v in np.clip(levels_of((x.low, x.high), grid.scale), low, high))
        same = (
            len(x.terms) == 1
            and self.is_small(first)
            and self.dtype(first) == grid.dtype
            and np.float32(first.step) == np.float32(grid.scale)
        )
        if same and (low, high) == RANGE[grid.dtype]:
            return first
        if same:
            return self.emit_same_scale("clamp", first, name=name, low=low, high=high)
        axis = self.scale_axis(x)
        ms, shift = multipliers(
            [t.scale / float(np.float32(grid.scale)) for t in x.terms],
            [self.builder.ranges[t.value] for t in x.terms],
            self.builder.arithmetic.multiplier_bits,
            axis,
        )
        rounding = self.builder.arithmetic.rounding
        return self.requant(
            x, ms, shift, grid, name=name, axis=axis, rounding=rounding, low=low, high=high
        )

    def requant(
        self,
        x: PendingSum,
        ms: Sequence[np.ndarray],
        shift: np.ndarray,
        grid: Grid,
        *,
        name: str | None = None,
        **attrs: Any,
    ) -> ScaledInts:
        """round(sum of x's terms, each times its m, >> shift) on `grid`. ms, shift: int64 (1,) or
        (C,) along the value's axis `axis`; rounding, low, high: as in a requant."""
        operands = [t.value for t in x.terms]
        dim = self.common_batch_dim(operands)
        operands += [self.const(f"m{i}", "int64", m) for i, m in enumerate(ms)]
        operands.append(self.const("shift", "int64", shift))
        return self.emit_value_axes(
            "requant", operands, grid.scale, dim, name=name, dtype=grid.dtype, **attrs
        )

    def scale_axis(self, x: PendingSum) -> int:
        """The value's axis along which the terms of `x` have scales of their own; 1 where each has
        one alone."""
        dims = {t.axis for t in x.terms if t.axis is not None}
        if len(dims) > 1:
            self.fail("it adds tensors whose channels lie along different dims")
        return self.common_batch_dim([t.value for t in x.terms]).axis(dims.pop()) if dims else 1

    def common_batch_dim(self, inputs: Sequence[str]) -> BatchDim:
        """Return which dim holds the batch of all operands that are not constants. Fails where they
        differ."""
        names = [name for name in inputs if name not in self.builder.consts]
        dims = [self._batch_dims.get(name, BATCH_FIRST) for name in names]
        if any(dim != dims[0] for dim in dims):
            raise AcrossBatch("its operands have the batch in different dims")
        return dims[0]

    # -- constants -----------------------------------------------------------------------------

    def tensor(self, constant: Tensor, grid: Grid | None = None) -> ScaledInts:
        """A constant as a tensor of the Program, the same for every image: the bias of a fully
        connected layer of zeros. It broadcasts against the tensors that this node reads, and has
        its batch where they have it. grid: its own, None: that of its own range in the input's
        dtype."""
        if not self.builder.inputs:
            self.fail(
                "it reads a constant before any input of the model is quantized",
                "prepare the first module with quantize_input: true",
                QS706,
            )
        dim, real = self._one_image(constant)
        source, name = self.builder.inputs[0], f"{self.node.name}.constant"
        if is_integer_tensor(constant) and is_integer_tensor(self.context.value(self.node)):
            grid = INTEGERS
            if np.abs(real).max() > RANGE[grid.dtype][1]:
                self.fail("it reads a constant of more than 32 bits", code=QS704)
        elif grid is None:
            dtype = self.builder.values[source.name].dtype
            low, high = RANGE[dtype]
            grid = Grid(float(np.abs(real).max() or 1.0) * 2 / (high - low), dtype)
        levels = real if grid == INTEGERS else levels_of(real, grid.scale)
        levels = np.clip(levels, *RANGE[grid.dtype]).reshape(-1)
        x = ScaledInts(source.name, source.scale.astype(np.float64))
        x = self.emit_same_scale("reshape", x, name=name, shape=(prod(source.shape),))
        x = self.emit_same_scale("slice", x, name=name, axis=1, start=0, stop=1, step=1)
        weight = self.const("zero", "int8", np.zeros((levels.size, 1)))
        bias = self.const("levels", "int32", levels)
        y = self.emit("linear", (x.value, weight, bias), grid.scale, name=name)
        y = y if grid == INTEGERS else self.quantize(y, grid, name)
        return self.emit_value_axes(
            "reshape", (y.value,), y.scale, dim, name=name, shape=real.shape
        )

    def _one_image(self, constant: Tensor) -> tuple[BatchDim, np.ndarray]:
        """(where it has its batch, one image's part in the shape of a value) of a constant."""
        dim, shape, shared = self._read_beside(max(constant.ndim, 1))
        rows = constant.to(torch.float64)
        rows = rows.reshape((1,) * (len(shape) - rows.ndim) + rows.shape)
        if rows.shape[dim.batch] == 1:
            rows = rows.repeat_interleave(prod(shared), dim.batch)
        if rows.shape[dim.batch] % prod(shared):
            self.fail(f"it joins {tuple(constant.shape)} and {shape}", "give both the same dims")
        images = dim.in_front(rows, shared)
        if not (images == images[:1]).all():
            self.fail("it reads a constant that differs along the batch", "make it of one image")
        return dim, images[0].numpy()

    def _read_beside(self, rank: int) -> tuple[BatchDim, tuple[int, ...], tuple[int, ...]]:
        """(batch dim, shape, what shares the batch's dim) of the tensor of at least `rank` dims
        that this node reads beside a constant; with the batch first where it reads none."""
        for node in self.node.all_input_nodes:
            found = self.lowered.get(node)
            shape = self.shape(node) if isinstance(found, PendingSum) else ()
            if isinstance(found, PendingSum) and len(shape) >= rank:
                dim = self.batch_dim(found)
                return dim, shape, dim.shared(self.value_shape(found))
        return BATCH_FIRST, (1,) * rank, ()
