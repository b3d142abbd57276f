"""export_qat_onnx: the fake-quant model as a Q/DQ graph in standard ONNX ops (rule: own ONNX).

Written from our own trace of the model in eval mode. Each fake-quant is a QuantizeLinear and a
DequantizeLinear with zero point 0, or of uint8 where the march or the caller asks for it
(qatspec.export.uint8); each quantized weight is integers and a DequantizeLinear along axis 0, batch
norms folded, biases in float. Names are the model's own.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import onnx
import torch
from torch import Tensor, fx

from qatspec.diag import Collector, Diagnostic, DiagnosticError
from qatspec.diag.codes import QS519, QS703, QS705, QS720, QS726
from qatspec.export.converted import described_image
from qatspec.export.saturation import advice, saturating
from qatspec.export.uint8 import Uint8, fits
from qatspec.graph import Prepared
from qatspec.graph.batch import Batch, Open, Size
from qatspec.graph.context import GraphContext
from qatspec.graph.deploy import (
    Deployment,
    deploy,
    output_tree,
    yields_tensor,
)
from qatspec.graph.float_parts import without_head, without_head_and_tail, without_tail
from qatspec.graph.modes import eval_mode
from qatspec.onnxgraph import BATCH
from qatspec.qdq import QdqWriter
from qatspec.quant.fake_quant import FakeQuantize
from qatspec.registry import registry
from qatspec.spec import needed_opset, unsigned_in_int8
from qatspec.types import OpTrait

METADATA = "qatspec.qat"

#: How activations of 8 bits are written.
Form = Literal["int8", "uint8"]


def export_qat_onnx(
    prepared: Prepared,
    path: str | os.PathLike[str],
    example_inputs: Sequence[Any] | None = None,
    *,
    opset: int | None = None,
    name: str = "model",
    deployment: Deployment | None = None,
    image: Mapping[str, Any] | None = None,
    qdq: Form | None = None,
    batch: int | None = None,
) -> tuple[Diagnostic, ...]:
    """Write the Q/DQ ONNX of a prepared model: what its forward takes and returns.

    The batch is dynamic unless `batch` fixes it, or the model's own code holds for the batch of the
    example alone.
    Fake-quants count as on, whatever stage the model is in; the disabled ones of unquantized
    outputs are omitted.

    prepared        what `prepare` gave.
    path            the file to write.
    example_inputs  as forward takes them; None: those that `prepare` was given.
    opset           None: 17, or 21 where int16 or int4 need it.
    name            the graph's name.
    deployment      that of `prepared` and these inputs, where the caller has it.
    image           how pictures become the inputs (qatspec.spec.preprocessing), which the file's
                    metadata then record.
    qdq             activations of 8 bits as int8 with zero point 0, or as uint8 (which holds
                    quint8 as well); None: as the march has them (`March.qdq`).
    batch           images a run, for runtimes that compile a graph for one size; None: any number.

    Returns warnings: QS732 where a CPU without VNNI may saturate, QS519 where the float part in
    front of the integers, or that behind them, is not in the file. Raises DiagnosticError: QS720
    for an opset that is too low, QS808 for quint8 in an int8 file, QS724 for an op without ONNX
    form, QS705 for a scale that was never observed, QS726 for a batch other than the one for which
    the model's code holds.
    """
    inputs = prepared.example_inputs if example_inputs is None else example_inputs
    deployment = deployment or deploy(prepared, inputs)
    model = deployment.prepared.model
    dtypes = {
        m.qspec.dtype for m in model.modules() if isinstance(m, FakeQuantize) and not m.disabled
    }
    needed = needed_opset(dtypes)
    if opset is not None and opset < needed:
        raise QS720.error(
            f"opset {opset} cannot hold {', '.join(sorted(dtypes))}: it needs {needed}",
            help="leave the opset out, or raise it",
        )
    if qdq == "int8" and "quint8" in dtypes:
        raise unsigned_in_int8()
    with eval_mode(model):  # a computed weight may depend on the mode
        context = GraphContext(model, deployment.graph, prepared.march)
        opset = opset or needed
        try:
            return write_graph(context, path, opset, name, deployment.batch, image, qdq, batch)
        except DiagnosticError as refusal:
            for part, warning in _PARTS:
                if (network := part(deployment)) is None:
                    continue
                context = GraphContext(model, network, prepared.march)
                with contextlib.suppress(DiagnosticError):
                    warnings = write_graph(context, path, opset, name, None, image, qdq, batch)
                    return (warning(refusal), *warnings)
            raise


def _in_part(where: str, file: str) -> Callable[[DiagnosticError], Diagnostic]:
    """The warning that a file holds a part of the model, from why it cannot hold the whole."""

    def warning(refusal: DiagnosticError) -> Diagnostic:
        first = refusal.diagnostics[0]
        return QS519.warning(
            f"the QAT ONNX {where}, which it cannot hold: {first.message}",
            help=f"nothing, if you mean that: {file} the rest; to have all in one file, write it "
            "with ops that quant handlers know",
            span=first.span,
        )

    return warning


#: What a file may hold where it cannot hold the whole model, and the warning of that.
_PARTS = (
    (
        without_tail,
        _in_part("ends where the float part behind the integers begins", "`-post.onnx` holds"),
    ),
    (
        without_head,
        _in_part("begins behind the float part in front of the integers", "`-pre.onnx` holds"),
    ),
    (
        without_head_and_tail,
        _in_part(
            "holds what is between the float parts in front of the integers and behind them",
            "`-pre.onnx` and `-post.onnx` hold",
        ),
    ),
)


def write_graph(
    context: GraphContext,
    path: str | os.PathLike[str],
    opset: int,
    name: str,
    batch: Batch | None = None,
    image: Mapping[str, Any] | None = None,
    qdq: Form | None = None,
    images: int | None = None,
) -> tuple[Diagnostic, ...]:
    """Write one traced graph. batch: which of its sizes follow the batch, None: computed here.
    images: the number that fixes it. The rest, what it returns and raises: as `export_qat_onnx`."""
    if qdq is None:
        qdq = "int8" if context.march is None else registry().march(context.march).qdq
    walk = _Walk(context, batch or Batch(context.root, context.graph), opset, name, qdq, images)
    walk.write(path, image)
    return () if walk.uint8 is None else advice(walk.writer.weights)


def tree_of(model: onnx.ModelProto) -> Any:
    """How the outputs of a file by `export_qat_onnx` nest. Raises KeyError on another file."""
    return json.loads({p.key: p.value for p in model.metadata_props}[METADATA])["tree"]


def any_batch(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a QAT ONNX whose batch is not fixed: `model` itself, or a copy of it that takes any
    number of images where `batch` fixed the sizes that it states."""
    record = {p.key: p.value for p in model.metadata_props}.get(METADATA)
    if record is None or "batch" not in json.loads(record):
        return model
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for port in copy.graph.input:
        port.type.tensor_type.shape.dim[0].dim_param = BATCH
    for port in copy.graph.output:
        port.type.tensor_type.ClearField("shape")
    return copy


class _Walk:
    """Writes one traced graph, node by node."""

    def __init__(
        self,
        context: GraphContext,
        batch: Batch,
        opset: int,
        name: str,
        qdq: Form,
        images: int | None,
    ) -> None:
        self.context, self.batch, self.images = context, batch, images
        self.writer = QdqWriter(context, batch, opset, name)
        self.uint8 = Uint8(self.writer) if qdq == "uint8" else None

    def write(self, path: str | os.PathLike[str], image: Mapping[str, Any] | None) -> None:
        """Write every node, the outputs and the file. image: recorded in its metadata."""
        graph, refused = self.context.graph, Collector()
        for node in graph.nodes:
            if node.op == "output" or not yields_tensor(node):
                continue
            if self._is_initializer(node):
                continue
            before = len(self.writer.graph.nodes)
            with refused.collect():
                self.writer.names[node] = self._node(node)
            for proto in self.writer.graph.nodes[before:]:
                proto.doc_string = _made_by(node)
        refused.raise_if_any()
        flat, tree = output_tree(graph)
        for node in flat:
            if not isinstance(node, fx.Node) or not yields_tensor(node):
                raise QS703.error(
                    f"the model returns `{node}`, which is not a tensor",
                    help="return only tensors that forward computes from its inputs",
                )
            if isinstance(self.context.value(node), (list, tuple)):
                self.writer.fail(node, "an output of several tensors at once")
            shape = [self._declared(size) for size in self.writer.sizes(node)]
            self.writer.graph.output(
                self.writer.operand(node), node.name, self.writer.dtype(node), shape
            )
        record = {"form": "qdq", "march": self.context.march, "tree": tree}
        if self.images is not None and self.batch.is_open:
            record["batch"] = self.images
        readable = {}
        if image is not None:
            record["image"] = image
            readable = described_image(image)
        if self.uint8 is not None:
            self.writer.graph.drop_unread("DequantizeLinear")
            record["saturating"] = saturating(self.writer.weights)
        metadata = {METADATA: json.dumps(record, sort_keys=True), **readable}
        self.writer.graph.write(path, self.writer.opset, metadata)

    def _declared(self, size: Size) -> int | str:
        """A size as the file states it of an input or output."""
        if isinstance(size, int):
            return size
        return str(size) if self.images is None else int(size.times * self.images + size.plus)

    def _demand_batch(self, batch: int) -> None:
        if self.images not in (None, batch):
            raise QS726.error(
                f"the model's code holds for a batch of {batch} alone: its QAT ONNX cannot have "
                f"one of {self.images}",
                help=f"write `batch: {batch}`, or reshape in forward by sizes of the input "
                "(`x.shape[0]`) in place of numbers",
            )

    def _repeated(self, node: fx.Node) -> str:
        """Write a tensor that forward makes from sizes alone, and that repeats for every image."""
        sizes = self.writer.sizes(node)
        following = [(i, size) for i, size in enumerate(sizes) if isinstance(size, Open)]
        if len(following) != 1:
            self.writer.fail(node, "a number that follows the batch")
        ((axis, size),) = following
        if size.plus or size.times.denominator > 1:
            self.writer.fail(node, f"a size of {size}")
        value, times = self.batch.value(node, twice=True), int(size.times)
        images = value.shape[axis] // times
        apart = [(axis, value)]
        if times > 1:  # the batch and another dim in one, in either order
            apart = [
                (axis, value.unflatten(axis, (images, times))),
                (axis + 1, value.unflatten(axis, (times, images))),
            ]
        for dim, tensor in apart:
            image = tensor.narrow(dim, 0, 1)
            if (tensor == image).all():
                break
        else:
            self.writer.fail(node, "a constant that differs along the batch")
        x = self.writer.graph.const(f"{node.name}.image", image.numpy(), self.writer.dtype(node))
        wanted = [Open() if i == dim else 1 for i in range(image.ndim)]
        x = self.writer.expanded(node, x, wanted)
        return self.writer.reshaped(node, x, (), sizes, node.name) if times > 1 else x

    def _is_initializer(self, node: fx.Node) -> bool:
        """Return whether the value is known without an input. The fake-quant of a constant is
        not."""
        is_fake_quant = isinstance(self.context.module(node), FakeQuantize)
        return self.batch.is_constant(node) and not is_fake_quant

    def _node(self, node: fx.Node) -> Any:
        """The name of the node's result, or the names of several."""
        if node.op == "placeholder":
            shape = self.context.shape(node)
            first: list[int | str] = list(shape[:1])
            if self.batch.is_open and shape:
                first = [self.images or BATCH]
            elif shape:
                self._demand_batch(shape[0])
            return self.writer.graph.input(node.name, self.writer.dtype(node), [*first, *shape[1:]])
        module = self.context.module(node)
        if isinstance(module, FakeQuantize):
            return self._fake_quant(node, module)
        is_tensor = isinstance(self.context.value(node), Tensor)
        if is_tensor and self.batch.is_constant(node, of_batch=True):
            return self._repeated(node)
        op = self.context.op(node)
        handler = registry().handler_for(op) if op else None
        if self.uint8 is not None and (y := self.uint8.written(node, handler)) is not None:
            return y
        if handler is None or handler.to_onnx is None:
            self.writer.fail(node, self.context.label(node))
        with registry().attribute_errors(
            handler, f"handler `{handler.name}`, writing `{node.name}`,"
        ):
            y = handler.to_onnx(node, self.writer)
        return self._closed(node, y) if OpTrait.ENDS_KERNEL in handler.traits else y

    def _closed(self, node: fx.Node, y: str) -> str:
        """Round an op's result to the grid of the fake-quant after its clamp, if there is one.

        Rounding before and after a clamp gives the same as rounding after it, because both are
        monotone. But runtimes fuse an op with the pair that follows it:
        onnxruntime has integer kernels for convolutions and sums with Q/DQ behind them, and none
        with a relu between. In the form uint8 the clamp itself is written on integers.
        """
        clamp = _only_user(node)
        if self.uint8 is not None or clamp is None:
            return y
        if not self.context.has_trait(clamp, OpTrait.CLAMP):
            return y
        behind = _only_user(clamp)
        fake_quant = None if behind is None else self.context.module(behind)
        if behind is None or not isinstance(fake_quant, FakeQuantize) or fake_quant.disabled:
            return y
        return self._pair(y, str(behind.target), fake_quant, f"{node.name}.closed")

    def _fake_quant(self, node: fx.Node, fake_quant: FakeQuantize) -> str:
        x = self.writer.operand(node.args[0])
        if fake_quant.disabled:
            return x
        if self.uint8 is not None and fits(fake_quant):
            self._demand_observed(str(node.target), fake_quant)
            return self.uint8.pair(node, x, fake_quant)
        return self._pair(x, str(node.target), fake_quant, node.name)

    def _pair(self, x: str, path: str, fake_quant: FakeQuantize, name: str) -> str:
        """QuantizeLinear and DequantizeLinear on the grid of `fake_quant`."""
        self._demand_observed(path, fake_quant)
        grid = self.writer.grid(path, fake_quant)
        q = self.writer.graph.node("QuantizeLinear", [x, *grid], f"{name}.q")
        return self.writer.graph.node("DequantizeLinear", [q, *grid], name)

    def _demand_observed(self, path: str, fake_quant: FakeQuantize) -> None:
        if not fake_quant.observed:
            raise QS705.error(
                f"fake-quant `{path}` has never observed a range",
                help="run calibration or qat before converting",
            )


def _only_user(node: fx.Node) -> fx.Node | None:
    return next(iter(node.users)) if len(node.users) == 1 else None


def _made_by(node: fx.Node) -> str:
    """The path of the module whose forward made the node, or the name of what it calls."""
    if owner := node.meta.get("owner"):
        return str(owner)
    # the text of a function would hold its address, which differs in every process
    return torch.typename(node.target) if node.op == "call_function" else str(node.target)
