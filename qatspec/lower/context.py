"""What a handler's `lower(node, lowering)` works with.

A handler reads its operands with `value`, `integer` or `passive`, emits ops, and returns a Sum (or
a list of them, for ops with several results). It raises through `fail` what it cannot lower.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor, fx

from qatspec.diag import QatspecError
from qatspec.graph.context import GraphContext
from qatspec.program import DType, ProgramBuilder, Provenance
from qatspec.program.bounds import Overflow
from qatspec.program.lowered import Sum, Term
from qatspec.program.model import RANGE
from qatspec.program.operands import Malformed
from qatspec.program.requantize import multipliers

SMALL = ("int4", "int8", "int16")


class Unlowerable(QatspecError):
    """A node has no integer form: a diagnostic code, the reason, and the way out."""

    def __init__(self, code: str, reason: str, help_: str | None = None) -> None:
        super().__init__(reason)
        self.code, self.reason, self.help = code, reason, help_


class Skipped(QatspecError):
    """An operand failed already; its own diagnostic says why."""


@dataclass(frozen=True, slots=True)
class Target:
    """The quantization that closes a node: real scale and integer dtype."""

    scale: float
    dtype: DType


@dataclass(frozen=True, slots=True)
class Constant:
    """What a node computes from parameters alone: a tensor (a list for ops with several results);
    target: the grid that a fake-quant put it on."""

    value: Any
    target: Target | None = None


@dataclass(frozen=True, slots=True)
class RealInput:
    """An input of the model that no fake-quant has taken in yet."""

    name: str


class Lowering:
    """The walk over one traced graph. `node` is the one being lowered.

    lowered: node -> Sum, list of Sum, RealInput, or None where lowering failed.
    constants: node -> Constant, for what depends on no input; never in `lowered`.
    target: the enabled fake-quant behind a node, None where nothing quantizes it.
    host: nodes that are not lowered, because they run on the host (qatspec.lower.split).
    """

    def __init__(
        self,
        builder: ProgramBuilder,
        context: GraphContext,
        origin: Callable[[fx.Node], Provenance],
        target: Callable[[fx.Node], Target | None],
    ) -> None:
        self.builder, self.context = builder, context
        self._origin, self._target = origin, target
        self.lowered: dict[fx.Node, Any] = {}
        self.host: frozenset[fx.Node] = frozenset()
        self.constants: dict[fx.Node, Constant] = {}
        self.node: fx.Node

    # -- reading -------------------------------------------------------------------------------

    def fail(self, reason: str, help_: str | None = None, code: str = "QS701") -> NoReturn:
        """This node cannot be lowered, for `reason`; `help_` says what to do."""
        raise Unlowerable(code, reason, help_)

    def shape(self, node: Any = None) -> tuple[int, ...]:
        """The shape of a node's tensor with the batch; of this node by default."""
        return self.context.shape(self.node if node is None else node)

    def is_tensor(self, node: Any) -> bool:
        """Is it the result of an op (not a parameter, not a Python value)?"""
        return isinstance(node, fx.Node) and node in self.lowered

    def constant(self, node: Any) -> Any:
        """The Python value or parameter tensor of an argument that is no result of an op."""
        if not isinstance(node, fx.Node):
            return node
        known = self.constants.get(node)
        return self.context.value(node) if known is None else known.value

    def value(self, node: Any) -> Sum:
        """An operand as it stands. Fails on an input that is not quantized."""
        found = self._read(node)
        if isinstance(found, RealInput):
            self.fail(
                f"it reads the input `{found.name}` before any quantization",
                "prepare the first module with quantize_input: true, and move float "
                "pre-processing in front of the model",
                "QS706",
            )
        if not isinstance(found, Sum):
            self.fail("its operand is a list of tensors where one is needed")
        return found

    def values(self, node: Any) -> list[Sum]:
        """An operand that is a list of tensors."""
        found = [self.value(n) for n in node] if isinstance(node, (list, tuple)) else None
        found = self._read(node) if found is None else found
        if not isinstance(found, list):
            self.fail("its operand is one tensor where a list is needed")
        return found

    def passive(self, operand: Any) -> Term:
        """An operand as one unbounded term, per channel or not, accumulators included."""
        found = operand if isinstance(operand, Sum) else self.value(operand)
        if len(found.terms) == 1 and found.bounded and self._settled(found.terms[0]):
            return self._clamp(found)
        if len(found.terms) != 1 or found.bounded or (found.terms[0].scale <= 0).any():
            self._unquantized(operand)
        return found.terms[0]

    def integer(self, operand: Any) -> Term:
        """An operand as small integers with one positive scale."""
        found = operand if isinstance(operand, Sum) else self.value(operand)
        if len(found.terms) != 1 or not self._settled(found.terms[0]):
            self._unquantized(operand)
        return self._clamp(found) if found.bounded else found.terms[0]

    def target(self, node: fx.Node | None = None) -> Target | None:
        """The quantization that closes this node, None for a tail."""
        return self._target(self.node if node is None else node)

    def dtype(self, term: Term) -> DType:
        return self.builder.values[term.value].dtype

    def _read(self, node: Any) -> Any:
        if isinstance(node, fx.Node) and node in self.constants:
            known = self.constants[node]
            return self.tensor(known.value, known.target)
        if not isinstance(node, fx.Node) or node not in self.lowered:
            self.fail("its operand is a number where a tensor of the model is needed")
        found = self.lowered[node]
        if found is None:
            raise Skipped
        return found

    def _settled(self, term: Term) -> bool:
        return self.dtype(term) in SMALL and term.scale.size == 1 and term.step > 0

    def _unquantized(self, operand: Any) -> NoReturn:
        name = f" `{operand.name}`" if isinstance(operand, fx.Node) else ""
        self.fail(
            f"its operand{name} is not quantized to one scale",
            "quantize the op before it: remove the rule that leaves it in float, or set "
            "quantize_output: true on its module",
            "QS702",
        )

    # -- writing -------------------------------------------------------------------------------

    def const(self, suffix: str, dtype: DType, array: Any) -> str:
        """A constant named after this node."""
        return self.builder.const(f"{self.node.name}.{suffix}", dtype, array)

    def tensor(self, constant: Tensor, target: Target | None = None) -> Sum:
        """A constant (1 or batch, ...) as a tensor of the Program, the same for every image: the
        bias of a fully connected layer of zeros. target: its grid, None: that of its own range
        in the input's dtype."""
        rows = constant.to(torch.float64)
        if not (rows == rows[:1]).all():
            self.fail("it reads a constant that differs along the batch", "make it of one image")
        real = rows[0].numpy()
        source, name = self.builder.inputs[0], f"{self.node.name}.constant"
        if target is None:
            dtype = self.builder.values[source.name].dtype
            low, high = RANGE[dtype]
            target = Target(float(np.abs(real).max() or 1.0) * 2 / (high - low), dtype)
        levels = np.clip(_grid(real, target.scale), *RANGE[target.dtype]).reshape(-1)
        x = self.keep("reshape", self._port(), name=name, shape=(prod(source.shape),)).terms[0]
        x = self.keep("slice", x, name=name, axis=1, start=0, stop=1, step=1).terms[0]
        weight = self.const("zero", "int8", np.zeros((levels.size, 1)))
        bias = self.const("levels", "int32", levels)
        y = self.emit("linear", (x.value, weight, bias), target.scale, name=name)
        y = self.quantize(y, target, name)
        return self.keep("reshape", y.terms[0], name=name, shape=real.shape)

    def _port(self) -> Term:
        port = self.builder.inputs[0]
        return Term(port.name, port.scale.astype(np.float64))

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
        """An op whose result has `scale`, as a Sum of one term."""
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
            raise Unlowerable("QS704", str(problem), "use fewer bits for this module") from problem
        except Malformed as problem:
            raise Unlowerable("QS701", f"it has no integer form: {problem}") from problem
        return Sum((Term(value, scale, scale_axis),))

    def keep(self, kind: str, term: Term, **attrs: Any) -> Sum:
        """An op that moves integers and leaves scale and axis as they are."""
        return self.emit(kind, (term.value,), term.scale, scale_axis=term.axis, **attrs)

    def quantize(self, x: Sum, target: Target, name: str | None = None) -> Sum:
        """Close `x`: integers of the target's dtype and scale, in one requant at most."""
        low, high = RANGE[target.dtype]
        low, high = (int(v) for v in np.clip(_grid((x.low, x.high), target.scale), low, high))
        same = (
            len(x.terms) == 1
            and self._settled(x.terms[0])
            and self.dtype(x.terms[0]) == target.dtype
            and np.float32(x.terms[0].step) == np.float32(target.scale)
        )
        if same and (low, high) == RANGE[target.dtype]:
            return Sum(x.terms)
        if same:
            return self.keep("clamp", x.terms[0], name=name, low=low, high=high)
        axes = {t.axis for t in x.terms if t.axis is not None}
        if len(axes) > 1:
            self.fail("it adds tensors whose channels lie along different dims")
        axis = axes.pop() if axes else 1
        ms, shift = multipliers(
            [t.scale / float(np.float32(target.scale)) for t in x.terms],
            [self.builder.ranges[t.value] for t in x.terms],
            self.builder.arithmetic.multiplier_bits,
            axis,
        )
        operands = [t.value for t in x.terms]
        operands += [self.const(f"m{i}", "int64", m) for i, m in enumerate(ms)]
        return self.emit(
            "requant",
            (*operands, self.const("shift", "int64", shift)),
            target.scale,
            name=name,
            dtype=target.dtype,
            axis=axis,
            rounding=self.builder.arithmetic.rounding,
            low=low,
            high=high,
        )

    def _clamp(self, x: Sum) -> Term:
        """One small integer term with real bounds, settled on its own grid."""
        term = x.terms[0]
        target = Target(term.step, self.dtype(term))
        return self.quantize(x, target).terms[0]


def _grid(real: Any, scale: float) -> np.ndarray:
    """Real numbers as integers, rounded as a fake-quant rounds (contracts 12)."""
    with np.errstate(over="ignore"):
        return np.asarray(np.rint(np.asarray(real, np.float32) / np.float32(scale)))
