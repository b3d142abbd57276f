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
from torch import Tensor, fx

from qatspec.diag import Code
from qatspec.diag.codes import QS701, QS702, QS703, QS704, QS706
from qatspec.graph.context import GraphContext
from qatspec.ir import RANGE, DType, Overflow, Provenance
from qatspec.kinds import SMALL, Malformed
from qatspec.lowering.batch_dim import BATCH_FIRST, AcrossBatch, BatchDim
from qatspec.lowering.forms import computable, on_own_scale, requantization
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
        """Refuse to lower this node, for `reason`; `help_` says what to do, and `code` is the
        diagnostic's. Never returns. Raises Unlowerable."""
        raise Unlowerable(code, reason, help_)

    # -- reading -------------------------------------------------------------------------------

    def shape(self, node: Any = None) -> tuple[int, ...]:
        """Return the shape of the tensor of `node` with the batch; None: of this node."""
        return self.context.shape(self.node if node is None else node)

    def value_shape(self, x: ScaledInts | PendingSum) -> tuple[int, ...]:
        """Return the shape of the Program's value `x`, without the batch; terms of a sum
        agree."""
        return self.builder.values[pending(x).terms[0].value].shape

    def dtype(self, x: ScaledInts) -> DType:
        """Return the integer type of the Program's value `x`."""
        return self.builder.values[x.value].dtype

    def batch_dim(self, x: ScaledInts | PendingSum) -> BatchDim:
        """Return which dim of the tensor `x` holds the batch; the terms of a sum agree."""
        return self._batch_dims.get(pending(x).terms[0].value, BATCH_FIRST)

    def is_tensor(self, node: Any) -> bool:
        """Return whether `node` is the result of an op, not a parameter or a Python value."""
        return isinstance(node, fx.Node) and node in self.lowered

    def constant(self, node: Any) -> Any:
        """Return the Python value or parameter tensor of an argument `node` that is no op's
        result."""
        if not isinstance(node, fx.Node):
            return node
        known = self.constants.get(node)
        return self.context.value(node) if known is None else known.value

    def value(self, node: Any) -> PendingSum:
        """Return the operand `node` before any rounding. Raises Unlowerable QS706 for an input that
        is not quantized, and for an operand that is no single tensor."""
        result = self._read(node)
        if isinstance(result, RealInput):
            self.fail(
                f"it reads the input `{result.name}` before any quantization",
                "prepare the first module with quantize_input: true, leave it out of "
                "`non_traceable_module_name` and `non_traceable_module_class`, and move float "
                "pre-processing in front of the model",
                QS706,
            )
        if not isinstance(result, PendingSum):
            self.fail(
                "its operand is a list of tensors where one is needed",
                "take them apart: values, places = x.max(1)",
            )
        return result

    def values(self, node: Any) -> list[PendingSum]:
        """Return the operand `node`, which is a list of tensors. Raises Unlowerable for a
        single one."""
        results = [self.value(n) for n in node] if isinstance(node, (list, tuple)) else None
        results = self._read(node) if results is None else results
        if not isinstance(results, list):
            self.fail("its operand is one tensor where a list is needed")
        return results

    def single_term(self, operand: Any) -> ScaledInts:
        """Return an operand as one tensor of integers without bounds, which has one scale or one
        for each channel. It may be an int32 accumulator. Raises Unlowerable QS702 for any other."""
        total = operand if isinstance(operand, PendingSum) else self.value(operand)
        if len(total.terms) == 1 and total.bounded and self.is_small(total.terms[0]):
            return self._clamp(total)
        if len(total.terms) != 1 or total.bounded or (total.terms[0].scale <= 0).any():
            self._unquantized(operand)
        return total.terms[0]

    def small_integers(self, operand: Any) -> ScaledInts:
        """Return an operand as integers of 4, 8 or 16 bits with one positive scale. Raises
        Unlowerable QS702 for any other."""
        total = operand if isinstance(operand, PendingSum) else self.value(operand)
        if len(total.terms) != 1 or not self.is_small(total.terms[0]):
            self._unquantized(operand)
        return on_own_scale(self, self._clamp(total) if total.bounded else total.terms[0])

    def is_small(self, x: ScaledInts) -> bool:
        """Return whether the term `x` has integers of 4, 8 or 16 bits and one positive scale."""
        return self.dtype(x) in SMALL and x.scale.size == 1 and x.step > 0

    def grid(self, node: fx.Node | None = None) -> Grid | None:
        """Return the grid of the fake-quant behind `node` (None: this one); None for an output that
        nothing quantizes."""
        return self._grid(self.node if node is None else node)

    def required_grid(self, what: str) -> Grid:
        """Return `grid()` of this node. Raises Unlowerable QS703 where nothing quantizes its
        result; `what` names what computes it ("a table"), which gives no int32 output."""
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
        result = self.lowered[node]
        if result is None:
            raise FailedOperand
        return result

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
        """Add `array` as a constant of `dtype`, named after this node with `suffix`. Returns
        its name."""
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
        """Make an op of the Program from dims of the model's tensors.

        kind        of the op, a name of qatspec.kinds; `attrs` are its attributes.
        inputs      names of its operands: values and constants.
        scale       of the result: one number, or one a channel along its dim `scale_axis`.
        name        of the result; None: this node's.

        The attributes axis, axes and perm count the dims of the model's tensor, the batch included;
        shape is what follows its first dim. Returns the result. Raises Unlowerable: QS704 where the
        integers overflow, QS701 where the op has no integer form or mixes images.
        """
        dim = self.common_batch_dim(inputs)
        if dim.is_first:
            return self.emit_value_axes(
                kind, inputs, scale, BATCH_FIRST, scale_axis=scale_axis, name=name, **attrs
            )
        shape = self.builder.values[inputs[0]].shape
        dim, attrs = dim.placed(kind, attrs, shape)
        axis = None if scale_axis is None else dim.axis(scale_axis)
        return self.emit_value_axes(kind, inputs, scale, dim, scale_axis=axis, name=name, **attrs)

    def emit_same_scale(self, kind: str, x: ScaledInts, **attrs: Any) -> ScaledInts:
        """Make an op of `kind`, with `attrs`, that moves the integers of `x`. Returns them, with
        scale and axis of `x`. Raises as `emit`."""
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
        """Make an op in axes of the Program's values, for what moves the batch.

        dim: where the result has its batch. kind, inputs, scale, scale_axis, name and attrs: as
        `emit` takes them, but axes count the dims of the value. Returns the result. Raises as
        `emit`.
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
        """Compute `x` rounded to `grid`, in one requant at most, and return it (rules: exact
        rounding, exact multipliers). name: of the result, None: this node's."""
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
        x = computable(self, x, grid)
        axis = self.scale_axis(x)
        ms, shift, attrs = requantization(self, x, grid, axis)
        return self.requant(x, ms, shift, grid, name=name, axis=axis, low=low, high=high, **attrs)

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
        """Compute round(sum of the terms of `x`, each times its m, >> shift) on `grid` (rule: exact
        multipliers; Jacob et al. 2018, https://arxiv.org/abs/1712.05877, section 2.2).

        ms, shift: int64 (1,) or (C,) along the value's axis `axis`. name: of the result, None: this
        node's. attrs: axis, rounding, low and high, as a requant has them. Returns the result.
        """
        operands = [t.value for t in x.terms]
        dim = self.common_batch_dim(operands)
        operands += [self.const(f"m{i}", "int64", m) for i, m in enumerate(ms)]
        operands.append(self.const("shift", "int64", shift))
        return self.emit_value_axes(
            "requant", operands, grid.scale, dim, name=name, dtype=grid.dtype, **attrs
        )

    def scale_axis(self, x: PendingSum) -> int:
        """Return the value's axis along which the terms of `x` have scales of their own; 1 where
        each has one alone. Raises Unlowerable where the terms have different ones."""
        dims = {t.axis for t in x.terms if t.axis is not None}
        if len(dims) > 1:
            self.fail("it adds tensors whose channels lie along different dims")
        return self.common_batch_dim([t.value for t in x.terms]).axis(dims.pop()) if dims else 1

    def common_batch_dim(self, inputs: Sequence[str]) -> BatchDim:
        """Return which dim holds the batch of all `inputs` that are not constants. Raises
        Unlowerable where they differ."""
        names = [name for name in inputs if name not in self.builder.consts]
        dims = [self._batch_dims.get(name, BATCH_FIRST) for name in names]
        if any(dim != dims[0] for dim in dims):
            raise AcrossBatch("its operands have the batch in different dims")
        return dims[0]

    # -- constants -----------------------------------------------------------------------------

    def tensor(self, constant: Tensor, grid: Grid | None = None) -> ScaledInts:
        """Make a tensor of the Program from a constant of any shape: the bias of a linear op of
        zeros.

        It is the same for every image, broadcasts against the tensors that this node reads, and has
        its batch where they have it. grid: its own, None: that of its own range in the input's
        dtype. Returns the tensor. Raises Unlowerable for one that differs along the batch.
        """
        if not self.builder.inputs:
            self.fail(
                "it reads a constant before any input of the model is quantized",
                "prepare the first module with quantize_input: true",
                QS706,
            )
        dim, shape, shared = self._read_beside(max(constant.ndim, 1))
        real = dim.one_image(constant, shape, shared)
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

    def _read_beside(self, rank: int) -> tuple[BatchDim, tuple[int, ...], tuple[int, ...]]:
        """(batch dim, shape, what shares the batch's dim) of the tensor of at least `rank` dims
        that this node reads beside a constant; with the batch first where it reads none."""
        for node in self.node.all_input_nodes:
            beside = self.lowered.get(node)
            shape = self.shape(node) if isinstance(beside, PendingSum) else ()
            if isinstance(beside, PendingSum) and len(shape) >= rank:
                dim = self.batch_dim(beside)
                return dim, shape, dim.shared(self.value_shape(beside))
        return BATCH_FIRST, (1,) * rank, ()
