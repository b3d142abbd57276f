"""Float parts of a model as ONNX by torch's exporter, which knows ops that are never quantized:
comparisons, sorting, indexing by tensors."""

from __future__ import annotations

import io
import json
import os
import warnings

import onnx
import torch
from onnx import helper
from torch import Tensor, fx
from torch.jit._trace import TracerWarning

from qatspec.diag import DiagnosticError
from qatspec.diag.codes import QS703
from qatspec.export.qdq import METADATA
from qatspec.files import write_file
from qatspec.graph.context import GraphContext
from qatspec.graph.deploy import output_tree
from qatspec.graph.modes import eval_mode
from qatspec.onnxgraph import BATCH
from qatspec.onnxgraph.seal import sealed


def write_by_torch(
    context: GraphContext,
    path: str | os.PathLike[str],
    opset: int,
    refusal: DiagnosticError,
) -> None:
    """Write the graph of a float part, as `write_graph` does. Raises `refusal` where torch has no
    ONNX form either, or one that holds for the numbers of one example alone (a loop over results);
    DiagnosticError QS703 for a result that is no tensor."""
    flat, tree = output_tree(context.graph)
    for node in flat:
        if not isinstance(node, fx.Node):
            raise QS703.error(
                f"the model returns `{node}`, which is not a tensor",
                help="return only tensors that forward computes from its inputs",
            )
    module = fx.GraphModule(context.root, _flat(context.graph, flat))
    inputs = [n for n in context.graph.nodes if n.op == "placeholder"]
    names = [n.name for n in (*inputs, *flat)]
    file = io.BytesIO()
    try:
        with eval_mode(context.root), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for words in ("Converting a tensor", "Iterating over a tensor", "Using len"):
                warnings.filterwarnings("error", words, TracerWarning)
            torch.onnx.export(
                module.eval(),
                tuple(map(_example, inputs)),
                file,  # type: ignore[arg-type]  # torch takes it, and states only paths
                dynamo=False,
                opset_version=opset,
                input_names=names[: len(inputs)],
                output_names=names[len(inputs) :],
                dynamic_axes={name: {0: BATCH} for name in names},
            )
    except Exception as error:
        raise refusal from error
    model = onnx.load_from_string(file.getvalue())
    model.producer_name, model.producer_version = "qatspec", ""
    for proto in model.graph.node:
        proto.doc_string = ""
    record = {"form": "qdq", "march": context.march, "tree": tree}
    helper.set_model_props(model, {METADATA: json.dumps(record, sort_keys=True)})
    write_file(path, sealed(model.SerializeToString(deterministic=True)))


def _flat(graph: fx.Graph, results: list[fx.Node]) -> fx.Graph:
    """A copy of the graph that returns `results`."""
    copied = fx.Graph()
    made: dict[fx.Node, fx.Node] = {}
    for node in graph.nodes:
        if node.op != "output":
            made[node] = copied.node_copy(node, made.__getitem__)
    copied.output(tuple(made[node] for node in results))
    return copied


def _example(node: fx.Node) -> Tensor:
    """Numbers of the shape of an input: the tracing of torch's exporter runs the graph."""
    example = node.meta["example"]
    if not example.dtype.is_floating_point:
        return torch.zeros(example.shape, dtype=example.dtype)
    return torch.rand(example.shape, generator=torch.Generator().manual_seed(0))
