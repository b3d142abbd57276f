"""NVIDIA's written rules for explicitly quantized ONNX in TensorRT, as a check of our QAT file.

Source: NVIDIA TensorRT developer guide, "Working with Quantized Types" (explicit quantization, Q/DQ
placement recommendations) and the operator notes of QuantizeLinear and DequantizeLinear in the
onnx-tensorrt parser. TensorRT itself is not needed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import onnx
from onnx import numpy_helper

#: op -> the axis of its weight that holds output channels.
_WEIGHTED = {"Conv": 0, "ConvTranspose": 1, "Gemm": 0, "MatMul": 1}
#: Ops that dequantizing commutes with: TensorRT moves it behind them.
_COMMUTING = (
    "Reshape", "Transpose", "Slice", "Expand", "MaxPool", "Relu", "Clip", "Concat", "DepthToSpace",
)  # fmt: skip
_TYPES = (onnx.TensorProto.INT8, onnx.TensorProto.INT4)


@dataclass(frozen=True)
class _Graph:
    """One graph, by names."""

    model: onnx.ModelProto
    constants: Mapping[str, onnx.TensorProto] = field(init=False)

    def __post_init__(self) -> None:
        found = {tensor.name: tensor for tensor in self.model.graph.initializer}
        object.__setattr__(self, "constants", found)

    @cached_property
    def producer(self) -> dict[str, onnx.NodeProto]:
        return {name: node for node in self.model.graph.node for name in node.output}

    @cached_property
    def readers(self) -> dict[str, list[onnx.NodeProto]]:
        found: dict[str, list[onnx.NodeProto]] = {}
        for node in self.model.graph.node:
            for name in node.input:
                found.setdefault(name, []).append(node)
        return found

    def dequantized(self, name: str) -> onnx.NodeProto | None:
        """The DequantizeLinear that gives `name`, looked up through ops that it may be moved
        across; None for a real number."""
        node = self.producer.get(name)
        while node is not None and node.op_type in _COMMUTING:
            node = self.producer.get(node.input[0])
        return node if node is not None and node.op_type == "DequantizeLinear" else None


def tensorrt_findings(model: onnx.ModelProto) -> list[str]:
    """What of a Q/DQ model TensorRT would refuse or run in float, one sentence each with the
    node's name; empty: by its written rules it builds and runs in integers."""
    graph = _Graph(model)
    found: list[str] = []
    for node in model.graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            found += (f"{node.name}: {problem}" for problem in _pair(graph, node))
        elif node.op_type in _WEIGHTED:
            found += (f"{node.name}: {problem}" for problem in _weighted(graph, node))
        elif node.op_type == "Add":
            found += (f"{node.name}: {problem}" for problem in _residual(graph, node))
        elif node.op_type == "BatchNormalization":
            found.append(f"{node.name}: a batch norm is to be folded into its convolution")
    return found


def _pair(graph: _Graph, node: onnx.NodeProto) -> Iterator[str]:
    scale = graph.constants.get(node.input[1])
    if scale is None or scale.data_type != onnx.TensorProto.FLOAT:
        yield "its scale is no float32 constant"
    elif not (numpy_helper.to_array(scale) > 0).all():
        yield "its scale is not positive"
    zero = graph.constants.get(node.input[2]) if len(node.input) > 2 else None
    if zero is None or zero.data_type not in _TYPES:
        yield "its zero point does not say int8 or int4: other types are not taken"
    elif np.asarray(numpy_helper.to_array(zero)).any():
        yield "its zero point is not 0: only symmetric quantization is taken"
    weight = node.op_type == "DequantizeLinear" and node.input[0] in graph.constants
    if zero is not None and zero.data_type == onnx.TensorProto.INT4 and not weight:
        yield "int4 is for weights alone"
    if scale is not None and np.prod(scale.dims) > 1 and not weight:
        yield "an activation has one scale for the whole tensor"
    if node.op_type == "QuantizeLinear":
        others = [r for r in graph.readers.get(node.output[0], []) if r.op_type != node.op_type]
        if not others or any(r.op_type != "DequantizeLinear" for r in others):
            yield "it is followed by something else than DequantizeLinear"


def _weighted(graph: _Graph, node: onnx.NodeProto) -> Iterator[str]:
    x, weight = (graph.dequantized(name) for name in node.input[:2])
    if weight is None:
        return  # a float layer
    if x is None:
        yield "its weight is quantized and its input is not: it runs in float"
    direct = graph.producer[node.input[1]].op_type == "DequantizeLinear"
    axis = next((a.i for a in weight.attribute if a.name == "axis"), 1)
    expected = 0 if node.op_type != "ConvTranspose" or not direct else _WEIGHTED[node.op_type]
    scale = graph.constants.get(weight.input[1])
    if scale is not None and np.prod(scale.dims) > 1 and axis != expected:
        yield f"its weight's scales lie along axis {axis}, not along the output channels"
    if len(node.input) > 2 and graph.dequantized(node.input[2]) is not None:
        yield "its bias is quantized: TensorRT takes it in float32"


def _residual(graph: _Graph, node: onnx.NodeProto) -> Iterator[str]:
    """In a residual sum the branch that skips the convolution is to be quantized, so that the sum
    is fused into the convolution."""
    kinds = [graph.producer.get(name) for name in node.input]
    convs = [k for k in kinds if k is not None and k.op_type in ("Conv", "ConvTranspose")]
    quantized = [conv for conv in convs if graph.dequantized(conv.input[1]) is not None]
    others = [name for name, k in zip(node.input, kinds, strict=True) if k not in quantized]
    for name in others if quantized else ():
        if name not in graph.constants and graph.dequantized(name) is None:
            yield f"`{name}` is added to a quantized convolution and is not quantized itself"
