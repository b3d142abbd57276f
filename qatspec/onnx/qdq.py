"""export_qat_onnx: the fake-quant model as a Q/DQ graph in standard ONNX ops (rule: own ONNX).

Written from our own trace of the model in eval mode. Each fake-quant is a QuantizeLinear and a
DequantizeLinear with zero point 0, or of uint8 with zero point 128 where the march asks for it
(`March.qdq`, qatspec.onnx.uint8); each quantized weight is integers and a DequantizeLinear along
axis 0, batch norms folded, biases in float. Names are the model's own.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper
from torch import Tensor, fx, nn

from qatspec.diag import Diagnostic, DiagnosticError, InternalError, Span
from qatspec.graph import Prepared
from qatspec.graph.batch import Batch, Open, Size
from qatspec.graph.context import GraphContext
from qatspec.graph.deploy import Deployment, carries_tensor, deploy, output_tree
from qatspec.graph.modes import eval_mode
from qatspec.graph.ops import CLAMP_OPS
from qatspec.onnx import weighted
from qatspec.onnx.float_ops import WRITE
from qatspec.onnx.saturation import advice, saturating
from qatspec.onnx.uint8 import Uint8, fits
from qatspec.onnxgraph import BATCH, GraphWriter
from qatspec.quant.fake_quant import FakeQuantize
from qatspec.quant.functional import FunctionalConv
from qatspec.quant.modules import is_weight_quantized
from qatspec.registry import registry
from qatspec.spec import needed_opset

METADATA = "qatspec.qat"
_CLOSED = ("add", "sub", "mul")
_WEIGHTED = (nn.modules.conv._ConvNd, nn.Linear, FunctionalConv)


def export_qat_onnx(
    prepared: Prepared,
    path: str | os.PathLike[str],
    example_inputs: Sequence[Any] | None = None,
    *,
    opset: int | None = None,
    name: str = "model",
    deployment: Deployment | None = None,
    image: Mapping[str, Any] | None = None,
) -> tuple[Diagnostic, ...]:
    """Write the Q/DQ ONNX of `prepared`: what its forward takes and gives, batch dynamic unless the
    model's own code holds for the batch of the example alone.

    example_inputs: as forward takes them, None: those that `prepare` was given. opset: None is 17,
    or 21 where int16 or int4 need it. Fake-quants count as on, whatever stage the model is in;
    the disabled ones of unquantized outputs stay out. deployment: that of `prepared` and these
    inputs, where it is already there. image: how a picture becomes the input
    (qatspec.spec.preprocessing), which the file's metadata then record.

    Returns warnings: QS732 where a CPU without VNNI may saturate.

    Raises DiagnosticError: QS720 an opset too low, QS724 an op without ONNX form, QS705 a scale
    that was never observed.
    """
    inputs = prepared.example_inputs if example_inputs is None else example_inputs
    deployment = deployment or deploy(prepared, inputs)
    model = deployment.prepared.model
    dtypes = {
        m.qspec.dtype for m in model.modules() if isinstance(m, FakeQuantize) and not m.disabled
    }
    needed = needed_opset(dtypes)
    if opset is not None and opset < needed:
        raise DiagnosticError(
            Diagnostic(
                code="QS720",
                message=f"opset {opset} cannot hold {', '.join(sorted(dtypes))}: it needs {needed}",
                help="leave the opset out, or raise it",
            )
        )
    with eval_mode(model):  # a computed weight may depend on the mode
        writer = QdqWriter(
            model, deployment.graph, prepared.march, opset or needed, name, deployment.batch
        )
        writer.write(path, image)
    return () if writer.uint8 is None else advice(writer.uint8.weights)


def tree_of(model: onnx.ModelProto) -> Any:
    """How the outputs of a file that QdqWriter wrote nest. Raises KeyError on another file."""
    return json.loads({p.key: p.value for p in model.metadata_props}[METADATA])["tree"]


class QdqWriter:
    """Writes one traced graph. names: node -> ONNX result (a list for ops with several)."""

    def __init__(
        self,
        model: nn.Module,
        graph: fx.Graph,
        march: str | None,
        opset: int,
        name: str,
        batch: Batch | None = None,
    ) -> None:
        self.context = GraphContext(model, graph, march)
        self.batch = batch or Batch(model, graph)
        self.w = GraphWriter(name)
        self.opset = opset
        self.names: dict[Any, Any] = {}
        self.uint8 = Uint8(self) if march and registry().march(march).qdq == "uint8" else None

    def write(self, path: str | os.PathLike[str], image: Mapping[str, Any] | None = None) -> None:
        """Write every node, the outputs and the file. image: recorded in its metadata."""
        graph = self.context.graph
        for node in graph.nodes:
            if node.op == "output" or not carries_tensor(self.context.value(node)):
                continue
            if self._is_initializer(node):
                continue
            before = len(self.w.nodes)
            self.names[node] = self._node(node)
            for proto in self.w.nodes[before:]:
                proto.doc_string = _made_by(node)
        flat, tree = output_tree(graph)
        for node in flat:
            if not isinstance(node, fx.Node) or not carries_tensor(self.context.value(node)):
                raise DiagnosticError(
                    Diagnostic(
                        code="QS703", message="the model returns something that is no tensor"
                    )
                )
            if isinstance(self.context.value(node), (list, tuple)):
                self.fail(node, "an output of several tensors at once")
            shape = [size if isinstance(size, int) else str(size) for size in self.sizes(node)]
            self.w.output(self.operand(node), node.name, self.dtype(node), shape)
        record = {"form": "qdq", "march": self.context.march, "tree": tree}
        if image is not None:
            record["image"] = image
        if self.uint8 is not None:
            self.w.drop_unread("DequantizeLinear")
            record["saturating"] = saturating(self.uint8.weights)
        self.w.write(path, self.opset, {METADATA: json.dumps(record, sort_keys=True)})

    def operand(self, value: Any, dtype: Any = None) -> str:
        """The ONNX name of an argument: a result, a parameter, or a number. dtype: what it is
        needed as, None: a tensor as it is and a number as float32."""
        if isinstance(value, fx.Node) and value in self.names:
            name, own = str(self.names[value]), self.dtype(value)
            if self.uint8 is not None and name in self.uint8.carried:
                return self.uint8.carried[name]
            return name if dtype in (None, own) else self.w.cast(name, dtype, f"{name}.cast")
        if isinstance(value, fx.Node) and self._is_tensor(value):
            name = str(value.target) if value.op == "get_attr" else value.name
            return self.w.const(name, self.tensor(value).numpy(), dtype or self.dtype(value))
        if isinstance(value, fx.Node) and self.batch.follows(value):
            self.fail(value, "a number that follows the batch")
        number = self.context.value(value)
        if not isinstance(number, (int, float)):  # numpy would write None as nan
            raise InternalError(f"{number!r} is no operand")
        return self.w.const("number", number, dtype or np.float32)

    def tensor(self, node: Any) -> Tensor:
        """The parameter or buffer that a node gives, or what is computed from such alone."""
        return self.batch.value(node).detach()  # type: ignore[no-any-return]

    def operands(self, node: fx.Node) -> list[Any]:
        """The tensors behind x: weight, bias, ..."""
        return [None if a is None else self.tensor(a) for a in node.args[1:]]

    def dtype(self, node: Any) -> np.dtype[Any]:
        """The element type of a node's result: the model's, with float32 for every float."""
        dtype = self.context.value(node).dtype
        if dtype.is_floating_point:
            return np.dtype(np.float32)
        return torch.empty(0, dtype=dtype).numpy().dtype

    def sizes(self, node: Any, part: int | None = None) -> tuple[Size, ...]:
        """Sizes of a node's result, for any batch; part: of that one of several."""
        return self.batch.sizes(node, part)

    def reshaped(
        self, node: fx.Node, x: str, before: Sequence[Size], after: Sequence[Size], name: str
    ) -> str:
        """x of sizes `before` in sizes `after`, for any batch."""
        sizes = [
            size if isinstance(size, int) else 0 if size in before[i : i + 1] else -1
            for i, size in enumerate(after)
        ]
        if sizes.count(-1) > 1:
            self.fail(node, "a reshape that splits the batch")
        return self.w.node("Reshape", [x, self.w.const(f"{name}.shape", sizes, np.int64)], name)

    def size_of(self, node: fx.Node, size: Open) -> str:
        """The ONNX name of a size that follows the batch: one int64."""
        if size.plus or size.times.denominator > 1:
            self.fail(node, f"a size of {size}")
        batch = self.w.node("Shape", [self.w.inputs[0].name], f"{node.name}.batch", start=0, end=1)
        if size.times == 1:
            return batch
        times = self.w.const("times", [int(size.times)], np.int64)
        return self.w.node("Mul", [batch, times], f"{node.name}.size")

    def expanded(self, node: fx.Node, x: str, sizes: Sequence[Size]) -> str:
        """x broadcast against a shape that may follow the batch."""
        if all(isinstance(size, int) for size in sizes):
            shape = self.w.const(f"{node.name}.shape", list(sizes), np.int64)
        else:
            parts = [
                self.w.const("size", [size], np.int64)
                if isinstance(size, int)
                else self.size_of(node, size)
                for size in sizes
            ]
            shape = self.w.node("Concat", parts, f"{node.name}.shape", axis=0)
        return self.w.node("Expand", [x, shape], node.name)

    def _repeated(self, node: fx.Node) -> str:
        """A tensor that forward makes for every image of the batch, from sizes alone."""
        sizes = self.sizes(node)
        following = [(i, size) for i, size in enumerate(sizes) if isinstance(size, Open)]
        if len(following) != 1:
            self.fail(node, "a number that follows the batch")
        ((axis, size),) = following
        if size.plus or size.times.denominator > 1:
            self.fail(node, f"a size of {size}")
        value, times = self.batch.value(node, twice=True), int(size.times)
        images = value.shape[axis] // times
        apart = [(axis, value)]
        if times > 1:  # the batch and another dim in one, in either order
            apart = [
                (axis, value.unflatten(axis, (images, times))),
                (axis + 1, value.unflatten(axis, (times, images))),
            ]
        for place, tensor in apart:
            image = tensor.narrow(place, 0, 1)
            if (tensor == image).all():
                break
        else:
            self.fail(node, "a constant that differs along the batch")
        x = self.w.const(f"{node.name}.image", image.numpy(), self.dtype(node))
        wanted = [Open() if i == place else 1 for i in range(image.ndim)]
        x = self.expanded(node, x, wanted)
        return self.reshaped(node, x, (), sizes, node.name) if times > 1 else x

    def _is_tensor(self, value: fx.Node) -> bool:
        return isinstance(self.context.value(value), Tensor)

    def _is_initializer(self, node: fx.Node) -> bool:
        """Is it known without an input? A constant's fake-quant is written for all that."""
        is_fake_quant = isinstance(self.context.module(node), FakeQuantize)
        return self.batch.is_constant(node) and not is_fake_quant

    def cut(self, x: str, axis: int, part: slice, name: str) -> str:
        """x[..., part, ...] along `axis`."""
        start, stop, step = part.start or 0, part.stop, part.step or 1
        stop = np.iinfo(np.int64).max if stop is None else stop
        names = [self.w.const("cut", [v], np.int64) for v in (start, stop, axis, step)]
        return self.w.node("Slice", [x, *names], name)

    def reduced(self, op: str, x: str, axes: Sequence[int], keepdims: bool, name: str) -> str:
        """A reduction; from opset 18 on (ReduceSum: 13) the axes are an input."""
        if op == "ReduceSum" or self.opset >= 18:
            names = [x, self.w.const("axes", list(axes), np.int64)]
            return self.w.node(op, names, name, keepdims=int(keepdims))
        return self.w.node(op, [x], name, axes=list(axes), keepdims=int(keepdims))

    def fail(self, node: fx.Node, what: str) -> NoReturn:
        """This node has no writer: `what` names the case."""
        file, _, line = str(node.meta.get("source", "")).rpartition(":")
        raise DiagnosticError(
            Diagnostic(
                code="QS724",
                message=f"`{node.name}`: {what} has no ONNX form here",
                help="replace the op, or move it out of forward",
                span=Span(file, int(line)) if file and line.isdigit() else None,
            )
        )

    def _node(self, node: fx.Node) -> Any:
        if node.op == "placeholder":
            shape = self.context.shape(node)
            first = [BATCH] if self.batch.is_open and shape else shape[:1]
            return self.w.input(node.name, self.dtype(node), [*first, *shape[1:]])
        module = self.context.module(node)
        if isinstance(module, FakeQuantize):
            return self._fake_quant(node, module)
        if self._is_tensor(node) and self.batch.is_constant(node, of_batch=True):
            return self._repeated(node)
        if quant_op := self.context.quant_op(node):
            return self._closed(node, weighted.quantized(self, node, quant_op))
        if isinstance(module, _WEIGHTED) and not is_weight_quantized(module):
            return weighted.unquantized(self, node, module)
        op = self.context.op(node)
        write = WRITE.get(op or "")
        if self.uint8 is not None and (y := self.uint8.written(node, write)) is not None:
            return y
        if write is not None:
            y = write(self, node)
            return self._closed(node, y) if op in _CLOSED else y
        handler = registry().handler_for(op) if op else None
        if handler is None or handler.to_onnx is None:
            self.fail(node, self.context.label(node))
        with registry().attribute_errors(
            handler, f"handler `{handler.name}`, writing `{node.name}`,"
        ):
            return handler.to_onnx(node, self)

    def _closed(self, node: fx.Node, y: str) -> str:
        """An op's result on the grid of the fake-quant behind its clamp, if there is one.

        Rounding before a clamp and again behind it is rounding behind it: both are monotone and
        the second changes nothing. But runtimes fuse an op with the pair that follows it:
        onnxruntime has integer kernels for convolutions and sums with Q/DQ behind them, and none
        with a relu between. In the form uint8 the clamp itself is written on integers.
        """
        clamp = _only_user(node)
        if self.uint8 is not None or clamp is None or self.context.op(clamp) not in CLAMP_OPS:
            return y
        behind = _only_user(clamp)
        fake_quant = None if behind is None else self.context.module(behind)
        if behind is None or not isinstance(fake_quant, FakeQuantize) or fake_quant.disabled:
            return y
        return self._pair(y, str(behind.target), fake_quant, f"{node.name}.closed")

    def _fake_quant(self, node: fx.Node, fake_quant: FakeQuantize) -> str:
        x = self.operand(node.args[0])
        if fake_quant.disabled:
            return x
        if self.uint8 is not None and fits(fake_quant):
            self._demand_observed(str(node.target), fake_quant)
            return self.uint8.pair(node, x, fake_quant)
        return self._pair(x, str(node.target), fake_quant, node.name)

    def _pair(self, x: str, path: str, fake_quant: FakeQuantize, name: str) -> str:
        """QuantizeLinear and DequantizeLinear on the grid of `fake_quant`."""
        self._demand_observed(path, fake_quant)
        grid = self.grid(path, fake_quant)
        q = self.w.node("QuantizeLinear", [x, *grid], f"{name}.q")
        return self.w.node("DequantizeLinear", [q, *grid], name)

    def _demand_observed(self, path: str, fake_quant: FakeQuantize) -> None:
        if not fake_quant.observed:
            raise DiagnosticError(
                Diagnostic(
                    code="QS705",
                    message=f"fake-quant `{path}` has never observed a range",
                    help="run calibration or qat before converting",
                )
            )

    def fill(self, value: float) -> str:
        """The ONNX name of the number that a Pad fills in: float32, or what stands for it where it
        pads integers."""
        if self.uint8 is not None and self.uint8.carried:
            return self.uint8.fill(value)
        return self.w.const("fill", value, np.float32)

    def grid(self, path: str, fake_quant: FakeQuantize, channels: int | None = None) -> list[str]:
        """Names of scale and zero point: scalars, or one an output channel."""
        scale = fake_quant.scale.detach()
        scale = scale.reshape(()) if channels is None else scale.expand(channels)
        zeros = np.zeros(tuple(scale.shape), np.int64)
        name = self.w.const(f"{path}.scale", scale.numpy(), np.float32)
        return [name, self.integers(f"{path}.zero_point", fake_quant.qspec.dtype, zeros)]

    def integers(self, name: str, dtype: str, array: np.ndarray) -> str:
        """An initializer of int8, int16 or (packed by ONNX) int4."""
        if dtype != "qint4":
            # onnxruntime rewrites weights and their zero points where it is asked for unsigned
            # ones (saturation.PRECISION), and fails on one that two nodes read
            shared = self.uint8 is None
            return self.w.const(name, array, dtype.removeprefix("q"), shared=shared)
        name = self.w.fresh(name)
        self.w.initializers[name] = helper.make_tensor(
            name, TensorProto.INT4, array.shape, array.reshape(-1).tolist()
        )
        return name


def _only_user(node: fx.Node) -> fx.Node | None:
    return next(iter(node.users)) if len(node.users) == 1 else None


def _made_by(node: fx.Node) -> str:
    """The path of the module whose forward made the node, or the name of what it calls."""
    if owner := node.meta.get("owner"):
        return str(owner)
    # the text of a function would hold its address, which differs in every process
    return torch.typename(node.target) if node.op == "call_function" else str(node.target)
