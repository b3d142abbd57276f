"""The float form of a QAT model for tools that quantize on their own, and the scales beside it."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper
from torch import Tensor, fx, nn

from qatspec.diag.codes import QS728
from qatspec.export.float32 import without_quantization
from qatspec.export.opset11 import NotInOpset11, in_opset_11
from qatspec.export.qdq import write_graph
from qatspec.graph.context import GraphContext
from qatspec.graph.deploy import Deployment, output_tree
from qatspec.graph.float_parts import without_post_process
from qatspec.graph.modes import eval_mode
from qatspec.process import scratch_folder
from qatspec.quant.fake_quant import FakeQuantize
from qatspec.spec import needed_opset

#: Largest distance to the fake-quant's weights in torch, as a share of the largest output: what
#: float32 sums in another order come to.
BOUND = 1e-4


def float_network(
    deployment: Deployment, *, name: str, batch: int
) -> tuple[onnx.ModelProto, dict[str, Any]]:
    """Return the network of a QAT model in float, in opset 11, and its scales.

    Batch norms are folded, weights are the real numbers of their integers, activations are not
    rounded, and the file ends where the post-process begins. name: of the graph; batch: images a
    run.

    The scales are JSON data: "activations" and "weights" by the names of the file's tensors.
    Raises DiagnosticError: as `export_qat_onnx`, and QS728 for an op without a form in opset 11.
    """
    prepared = deployment.prepared
    network = without_post_process(deployment)
    modules = [m for m in prepared.model.modules() if isinstance(m, FakeQuantize)]
    opset = needed_opset({m.qspec.dtype for m in modules if not m.disabled})
    with eval_mode(prepared.model), scratch_folder() as folder:
        context = GraphContext(prepared.model, network or deployment.graph, prepared.march)
        path = Path(folder) / "network.onnx"
        sizes = None if network is not None else deployment.batch
        write_graph(context, path, opset, name, sizes, None, "int8", batch)
        quantized = onnx.load(path)
    model = without_quantization(quantized)
    del model.metadata_props[:]
    try:
        return in_opset_11(model), _scales(quantized)
    except NotInOpset11 as error:
        raise QS728.error(
            f"the network has no form that can be handed on: {error}",
            help="write that step with other ops, or delete `handoff`",
            at="/stages/convert/handoff",
        ) from error


def reference(deployment: Deployment, inputs: Sequence[Tensor]) -> list[np.ndarray]:
    """Return what the network computes in torch with its fake-quantized weights and activations
    that are not rounded, as arrays in the order of the file's outputs."""
    network = without_post_process(deployment) or deployment.graph
    model = copy.deepcopy(deployment.prepared.model)
    for node in network.nodes:
        if node.op != "call_module" or node.args[0].op == "get_attr":
            continue
        if isinstance(model.get_submodule(node.target), FakeQuantize):
            model.set_submodule(node.target, nn.Identity())
    made: dict[fx.Node, fx.Node] = {}
    graph = fx.Graph()
    graph.graph_copy(network, made)
    graph.output(tuple(made[node] for node in output_tree(network)[0]))
    with torch.no_grad(), eval_mode(model):
        outputs = fx.GraphModule(model, graph)(*inputs)
    return [output.numpy() for output in outputs]


def _scales(model: onnx.ModelProto) -> dict[str, Any]:
    """The scales of a Q/DQ file by the names that tensors have without its rounding."""
    constants = {i.name: numpy_helper.to_array(i) for i in model.graph.initializer}
    renamed: dict[str, str] = {}
    activations: dict[str, Any] = {}
    weights: dict[str, Any] = {}
    for node in model.graph.node:
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
            continue
        source, scale, *zero = node.input
        values = np.atleast_1d(constants[scale]).tolist()
        dtype = constants[zero[0]].dtype.name if zero else None
        if source in constants:
            axis = next((helper.get_attribute_value(a) for a in node.attribute), None)
            axis = axis if len(values) > 1 else None
            dtype = constants[source].dtype.name
            weights[node.output[0]] = {"dtype": dtype, "axis": axis, "scales": values}
        else:
            renamed[node.output[0]] = renamed.get(source, source)
            if node.op_type == "QuantizeLinear":
                name = renamed[node.output[0]]
                activations[name] = {"dtype": dtype, "scale": values[0]}
    return {"activations": activations, "weights": weights}
