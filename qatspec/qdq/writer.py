"""The writer of float ONNX, which a handler's `to_onnx(node, writer)` is given."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import numpy as np
import torch
from onnx import TensorProto, helper
from torch import Tensor, fx

from qatspec.diag import InternalError
from qatspec.diag.codes import QS724
from qatspec.graph.advice import without_integers
from qatspec.graph.batch import Batch, Open, Size
from qatspec.graph.context import GraphContext
from qatspec.graph.source import line_span
from qatspec.onnxgraph import GraphWriter
from qatspec.quant.fake_quant import FakeQuantize


class QdqWriter:
    """The state of writing one traced graph as float ONNX, and tools that several families use.

    context  the graph, its modules and example values.
    batch    which sizes follow the batch.
    graph    the ONNX graph so far.
    names    node -> name of its result, a list for ops with several.
    weights  path -> integers of each layer that may become an integer kernel.
    carried  name of a result -> name of its integers, where the op being written moves integers
             (qatspec.export.uint8); `carried_fill` then returns the integer for the number that a
             pad fills in.
    steps    name of a result -> the scale of the uint8 integers that it stands for.
    widen    (name of a result, channels, name) -> the same with so many more channels, of 0;
             returns None where the result is not dequantized uint8.
    """

    graph: GraphWriter

    def __init__(
        self,
        context: GraphContext,
        batch: Batch,
        opset: int,
        name: str,
    ) -> None:
        self.context, self.batch, self.opset = context, batch, opset
        self.graph = GraphWriter(name)
        self.names: dict[Any, Any] = {}
        self.weights: dict[str, np.ndarray] = {}
        self.carried: dict[str, str] = {}
        self.steps: dict[str, np.float32] = {}
        self.carried_fill: Callable[[float], str]
        self.widen: Callable[[str, int, str], str | None] = lambda x, more, name: None

    # -- reading -------------------------------------------------------------------------------

    def operand(self, value: Any, dtype: Any = None) -> str:
        """Return the ONNX name of an argument `value`: a result, a parameter, or a number.

        dtype: what it is needed as; None: a tensor as it is and a number as float32. Raises
        InternalError for an argument of another kind.
        """
        if isinstance(value, fx.Node) and value in self.names:
            name, present = str(self.names[value]), self.dtype(value)
            if name in self.carried:
                return self.carried[name]
            return (
                name if dtype in (None, present) else self.graph.cast(name, dtype, f"{name}.cast")
            )
        if isinstance(value, fx.Node) and self._is_tensor(value):
            name = str(value.target) if value.op == "get_attr" else value.name
            return self.graph.const(name, self.tensor(value).numpy(), dtype or self.dtype(value))
        if isinstance(value, fx.Node) and self.batch.follows(value):
            self.fail(value, "a number that follows the batch")
        number = self.context.value(value)
        if not isinstance(number, (int, float)):  # numpy would write None as nan
            raise InternalError(f"{number!r} is no operand")
        return self.graph.const("number", number, dtype or np.float32)

    def same_type(self, node: fx.Node, *values: Any) -> list[str]:
        """Return `operand` of each of `values`, in the type of the node's result."""
        return [self.operand(value, self.dtype(node)) for value in values]

    def array(self, node: fx.Node, value: Any) -> np.ndarray | None:
        """Return the numbers of `value`, a parameter of the module of `node` or a constant argument
        of the call, in its shape; None for None.

        Raises DiagnosticError QS724 for one that is computed from the input."""
        if isinstance(value, fx.Node):
            if not self.batch.is_constant(value):
                self.fail(node, "a norm by weights that are computed from the input")
            value = self.tensor(value)
        return None if value is None else value.detach().numpy()

    def tensor(self, node: Any) -> Tensor:
        """Return the parameter or buffer that `node` gives, or what is computed from such alone,
        in its shape."""
        return self.batch.value(node).detach()  # type: ignore[no-any-return]

    def operands(self, node: fx.Node) -> list[Any]:
        """Return the tensor arguments of `node` after the first: weight, bias, ..."""
        return [None if a is None else self.tensor(a) for a in node.args[1:]]

    def dtype(self, node: Any) -> np.dtype[Any]:
        """Return the element type of the result of `node`: the model's, with float32 for
        every float."""
        dtype = self.context.value(node).dtype
        if dtype.is_floating_point:
            return np.dtype(np.float32)
        return torch.empty(0, dtype=dtype).numpy().dtype

    def sizes(self, node: Any, part: int | None = None) -> tuple[Size, ...]:
        """Return the sizes of the result of `node`, for any batch; part: the index of one of
        several results."""
        return self.batch.sizes(node, part)

    def _is_tensor(self, value: fx.Node) -> bool:
        return isinstance(self.context.value(value), Tensor)

    def is_float(self, node: fx.Node) -> bool:
        """Return whether a node is an output, or the fake-quant of one that is not quantized."""
        module = self.context.module(node)
        return node.op == "output" or (isinstance(module, FakeQuantize) and module.disabled)

    # -- writing -------------------------------------------------------------------------------

    def parameter(self, node: fx.Node, name: str, array: Any) -> str:
        """Write `array` as a float32 initializer `name` of the module of `node`, or of the node.
        Returns its ONNX name."""
        path = node.target if node.op == "call_module" else node.name
        return self.graph.const(f"{path}.{name}", np.asarray(array), np.float32)

    def reshaped(
        self, node: fx.Node, x: str, before: Sequence[Size], after: Sequence[Size], name: str
    ) -> str:
        """Write x, of sizes `before`, in sizes `after`, for any batch. Returns the result, called
        `name`. Raises DiagnosticError QS724, at `node`, where the batch is split."""
        sizes = [
            size if isinstance(size, int) else 0 if size in before[i : i + 1] else -1
            for i, size in enumerate(after)
        ]
        if sizes.count(-1) > 1:
            self.fail(node, "a reshape that splits the batch")
        return self.graph.node(
            "Reshape", [x, self.graph.const(f"{name}.shape", sizes, np.int64)], name
        )

    def size_of(self, node: fx.Node, size: Open) -> str:
        """Write a size of `node` that follows the batch: int64 (1,). Returns its ONNX name. Raises
        DiagnosticError QS724 where it is no multiple of the batch."""
        if size.plus or size.times.denominator > 1:
            self.fail(node, f"a size of {size}")
        batch = self.graph.node(
            "Shape", [self.graph.inputs[0].name], f"{node.name}.batch", start=0, end=1
        )
        if size.times == 1:
            return batch
        times = self.graph.const("times", [int(size.times)], np.int64)
        return self.graph.node("Mul", [batch, times], f"{node.name}.size")

    def expanded(self, node: fx.Node, x: str, sizes: Sequence[Size]) -> str:
        """Write x broadcast to `sizes`, which may follow the batch. Returns the result, called as
        `node`."""
        if all(isinstance(size, int) for size in sizes):
            shape = self.graph.const(f"{node.name}.shape", list(sizes), np.int64)
        else:
            parts = [
                self.graph.const("size", [size], np.int64)
                if isinstance(size, int)
                else self.size_of(node, size)
                for size in sizes
            ]
            shape = self.graph.node("Concat", parts, f"{node.name}.shape", axis=0)
        return self.graph.node("Expand", [x, shape], node.name)

    def cut(self, x: str, axis: int, part: slice, name: str) -> str:
        """Write x[..., part, ...] along the dim `axis`. Returns the result, called `name`."""
        start, stop, step = part.start or 0, part.stop, part.step or 1
        stop = np.iinfo(np.int64).max if stop is None else stop
        names = [self.graph.const("cut", [v], np.int64) for v in (start, stop, axis, step)]
        return self.graph.node("Slice", [x, *names], name)

    def reduced(self, op: str, x: str, axes: Sequence[int], keepdims: bool, name: str) -> str:
        """Write the reduction `op` ("ReduceMean") of x along `axes`; from opset 18 on (ReduceSum:
        13) they are an input. keepdims: reduced dims stay, of size 1. Returns the result, called
        `name`."""
        if op == "ReduceSum" or self.opset >= 18:
            names = [x, self.graph.const("axes", list(axes), np.int64)]
            return self.graph.node(op, names, name, keepdims=int(keepdims))
        return self.graph.node(op, [x], name, axes=list(axes), keepdims=int(keepdims))

    def padded(
        self, x: str, amounts: Sequence[int], mode: str, value: float, rank: int, name: str
    ) -> str:
        """Write x of `rank` dims with `amounts` around it, torch's way, the last dim first.

        mode: constant, reflect, replicate or circular, as torch names them; value: the number that
        constant fills in. Returns the result, called `name`.
        """
        amounts = [*amounts, *[0] * (2 * rank - len(amounts))]
        sides = [
            (amounts[2 * (rank - 1 - d)], amounts[2 * (rank - 1 - d) + 1]) for d in range(rank)
        ]
        if mode == "circular":  # Pad knows it from opset 19 on
            for axis, (before, after) in enumerate(sides):
                parts = [x]
                if before:
                    parts.insert(0, self.cut(x, axis, slice(-before, None), f"{name}.end"))
                if after:
                    parts.append(self.cut(x, axis, slice(0, after), f"{name}.start"))
                x = self.graph.node("Concat", parts, name, axis=axis) if len(parts) > 1 else x
            return x
        pads = [side[0] for side in sides] + [side[1] for side in sides]
        names = [x, self.graph.const(f"{name}.pads", pads, np.int64)]
        if mode == "constant":
            names.append(self._fill(value))
        onnx_mode = {"replicate": "edge"}.get(mode, mode)
        return self.graph.node("Pad", names, name, mode=onnx_mode)

    def _fill(self, value: float) -> str:
        """The ONNX name of the number that a Pad fills in: float32, or its integer where the pad is
        of integers."""
        if self.carried:
            return self.carried_fill(value)
        return self.graph.const("fill", value, np.float32)

    def grid(self, path: str, fake_quant: FakeQuantize, channels: int | None = None) -> list[str]:
        """Write scale and zero point of `fake_quant`, named after `path`: scalars, or one for each
        of `channels` output channels. Returns both names."""
        scale = fake_quant.scale.detach()
        scale = scale.reshape(()) if channels is None else scale.expand(channels)
        zeros = np.zeros(tuple(scale.shape), np.int64)
        name = self.graph.const(f"{path}.scale", scale.numpy(), np.float32)
        return [name, self.integers(f"{path}.zero_point", fake_quant.qspec.dtype, zeros)]

    def integers(self, name: str, dtype: str, array: np.ndarray) -> str:
        """Write `array`, of any shape, as an initializer `name` of a quantized `dtype`: int8, int16
        or int4 (which ONNX packs). Returns its ONNX name.

        Equal ones are written again: onnxruntime rewrites weights, quantized constants and their
        zero points where it is asked for unsigned ones (saturation.PRECISION), and fails on one
        that two nodes read."""
        if dtype != "qint4":
            return self.graph.const(name, array, dtype.removeprefix("q"), shared=False)
        name = self.graph.fresh(name)
        self.graph.initializers[name] = helper.make_tensor(
            name, TensorProto.INT4, array.shape, array.reshape(-1).tolist()
        )
        return name

    def fail(self, node: fx.Node, what: str) -> NoReturn:
        """Refuse to write `node`; `what` names the case. Never returns. Raises
        DiagnosticError QS724."""
        raise QS724.error(
            f"`{node.name}`: {what} has no ONNX form here",
            help=without_integers(None),
            span=line_span(self.context.source(node)),
            subject=f"`{node.name}`",
        )


def floor_quotient(q: QdqWriter, node: fx.Node, a: str, b: str) -> str:
    """(a - a mod b) / b, where a mod b has the sign of b: the floor of the exact quotient, which
    the floor of the rounded one is not (1.0 // 0.1 is 9)."""
    graph, name, dtype = q.graph, node.name, q.dtype(node)
    if np.issubdtype(dtype, np.integer):
        rest = graph.node("Mod", [a, b], f"{name}.rest")
        return graph.node("Div", [graph.node("Sub", [a, rest], f"{name}.whole"), b], name)
    rest = graph.node("Mod", [a, b], f"{name}.rest", fmod=1)  # ONNX gives it the sign of a
    multiple = graph.node("Sub", [a, rest], f"{name}.whole")
    quotient = graph.node(
        "Round", [graph.node("Div", [multiple, b], f"{name}.div")], f"{name}.truncated"
    )
    signs = [graph.node("Sign", [x], f"{name}.sign") for x in (rest, b)]
    against = graph.node("Mul", signs, f"{name}.against")
    zero = graph.const("zero", 0, dtype)
    below = graph.cast(graph.node("Less", [against, zero], f"{name}.below"), dtype, f"{name}.step")
    return graph.node("Sub", [quotient, below], name)
