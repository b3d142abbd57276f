"""What a handler's `lower(node, lowering)` works with.

A handler reads its operands with `value`, `integer` or `passive`, emits ops, and returns a Sum (or
a list of them, for ops with several results). It raises through `fail` what it cannot lower. It
counts the dims of the real tensors, wherever they have the batch (qatspec.lower.layout).
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor, fx

from qatspec.graph.context import GraphContext
from qatspec.ir import RANGE, Provenance
from qatspec.lower.emitting import grid
from qatspec.lower.layout import PLAIN, Layout
from qatspec.lower.moving import Moving
from qatspec.lower.operands import Constant, RealInput, Skipped, Target
from qatspec.lower.whole import is_whole
from qatspec.program import ProgramBuilder
from qatspec.program.lowered import Sum, Term


class Lowering(Moving):
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
        super().__init__(builder, context, origin)
        self._target = target
        self.lowered: dict[fx.Node, Any] = {}
        self.host: frozenset[fx.Node] = frozenset()
        self.constants: dict[fx.Node, Constant] = {}

    # -- reading -------------------------------------------------------------------------------

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
                "prepare the first module with quantize_input: true, leave it out of "
                "`non_traceable_module_name` and `non_traceable_module_class`, and move float "
                "pre-processing in front of the model",
                "QS706",
            )
        if not isinstance(found, Sum):
            self.fail(
                "its operand is a list of tensors where one is needed",
                "take them apart: values, places = x.max(1)",
            )
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
        if len(found.terms) == 1 and found.bounded and self.settled(found.terms[0]):
            return self._clamp(found)
        if len(found.terms) != 1 or found.bounded or (found.terms[0].scale <= 0).any():
            self._unquantized(operand)
        return found.terms[0]

    def integer(self, operand: Any) -> Term:
        """An operand as small integers with one positive scale."""
        found = operand if isinstance(operand, Sum) else self.value(operand)
        if len(found.terms) != 1 or not self.settled(found.terms[0]):
            self._unquantized(operand)
        return self._clamp(found) if found.bounded else found.terms[0]

    def target(self, node: fx.Node | None = None) -> Target | None:
        """The quantization that closes this node, None for a tail."""
        return self._target(self.node if node is None else node)

    def need_plain(self, node: fx.Node) -> None:
        """Fails where a tensor that `node` reads has its batch elsewhere than alone in front."""
        for operand in node.all_input_nodes:
            found = self.lowered.get(operand)
            if isinstance(found, Sum) and not self.layout(found.terms[0]).plain:
                self.fail(
                    f"it takes pictures, and the batch of `{operand.name}` is no dim of its own in "
                    "front",
                    "reshape it to (batch, channels, ...) before",
                )

    def check_shape(self, x: Sum) -> None:
        """Fails where `x` is not of this node's shape, wherever that has its batch: its handler
        does not know of such layouts."""
        layout, shape = self.layout(x.terms[0]), self.shape()
        value = self.builder.values[x.terms[0].value].shape
        own = (*value[: layout.batch], *value[layout.batch + layout.extra :])
        wanted = (*shape[: layout.batch], *shape[layout.batch + 1 :])
        if not layout.plain and own != wanted:
            self.fail(
                "it goes by the dims of a tensor whose batch is alone and in front",
                "permute or reshape its operand to (batch, ...) before",
            )

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

    def _unquantized(self, operand: Any) -> NoReturn:
        name = f" `{operand.name}`" if isinstance(operand, fx.Node) else ""
        self.fail(
            f"its operand{name} is not quantized to one scale",
            "quantize the op before it: remove the rule that leaves it in float, or set "
            "quantize_output: true on its module",
            "QS702",
        )

    def _clamp(self, x: Sum) -> Term:
        """One small integer term with real bounds, settled on its own grid."""
        term = x.terms[0]
        target = Target(term.step, self.dtype(term))
        return self.quantize(x, target).terms[0]

    # -- constants -----------------------------------------------------------------------------

    def tensor(self, constant: Tensor, target: Target | None = None) -> Sum:
        """A constant as a tensor of the Program, the same for every image: the bias of a fully
        connected layer of zeros. It broadcasts against the tensors that this node reads, and has
        its batch where they have it. target: its grid, None: that of its own range in the input's
        dtype."""
        if not self.builder.inputs:
            self.fail(
                "it reads a constant before any input of the model is quantized",
                "prepare the first module with quantize_input: true",
                "QS706",
            )
        layout, real = self._image(constant)
        source, name = self.builder.inputs[0], f"{self.node.name}.constant"
        if is_whole(constant) and is_whole(self.context.value(self.node)):
            target = self.whole
            if np.abs(real).max() > RANGE[target.dtype][1]:
                self.fail("it reads a constant of more than 32 bits", code="QS704")
        elif target is None:
            dtype = self.builder.values[source.name].dtype
            low, high = RANGE[dtype]
            target = Target(float(np.abs(real).max() or 1.0) * 2 / (high - low), dtype)
        levels = real if target == self.whole else grid(real, target.scale)
        levels = np.clip(levels, *RANGE[target.dtype]).reshape(-1)
        port = Term(source.name, source.scale.astype(np.float64))
        x = self.keep("reshape", port, name=name, shape=(prod(source.shape),)).terms[0]
        x = self.keep("slice", x, name=name, axis=1, start=0, stop=1, step=1).terms[0]
        weight = self.const("zero", "int8", np.zeros((levels.size, 1)))
        bias = self.const("levels", "int32", levels)
        y = self.emit("linear", (x.value, weight, bias), target.scale, name=name)
        level = (y if target == self.whole else self.quantize(y, target, name)).terms[0]
        return self.write(
            "reshape", (level.value,), level.scale, layout, name=name, shape=real.shape
        )

    def _image(self, constant: Tensor) -> tuple[Layout, np.ndarray]:
        """(layout, one image's part in the shape of a value) of a constant."""
        layout, shape, shared = self._meets(max(constant.ndim, 1))
        rows = constant.to(torch.float64)
        rows = rows.reshape((1,) * (len(shape) - rows.ndim) + rows.shape)
        if rows.shape[layout.batch] == 1:
            rows = rows.repeat_interleave(prod(shared), layout.batch)
        if rows.shape[layout.batch] % prod(shared):
            self.fail(f"it joins {tuple(constant.shape)} and {shape}", "give both the same dims")
        images = layout.in_front(rows, shared)
        if not (images == images[:1]).all():
            self.fail("it reads a constant that differs along the batch", "make it of one image")
        return layout, images[0].numpy()

    def _meets(self, rank: int) -> tuple[Layout, tuple[int, ...], tuple[int, ...]]:
        """(layout, shape, what shares the batch's dim) of the tensor of at least `rank` dims that
        this node reads beside a constant; of a plain tensor where it reads none."""
        for node in self.node.all_input_nodes:
            found = self.lowered.get(node)
            shape = self.shape(node) if isinstance(found, Sum) else ()
            if isinstance(found, Sum) and len(shape) >= rank:
                layout = self.layout(found.terms[0])
                return layout, shape, layout.shared(self.builder.values[found.terms[0].value].shape)
        return PLAIN, (1,) * rank, ()
