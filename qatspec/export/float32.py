"""A QAT ONNX without its quantization: the same net in float32, to be timed beside it."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import numpy_helper

#: How the results end that `Uint8.widened` makes on integers.
WIDENED = ".widened.q"
_ROUNDS = ("QuantizeLinear", "DequantizeLinear")


def without_quantization(model: onnx.ModelProto) -> onnx.ModelProto:
    """Drop every QuantizeLinear and DequantizeLinear.

    model: what `export_qat_onnx` wrote. Weights keep the numbers that their integers stand for.
    Channels of 0 that the uint8 form adds are dropped. Bounds and fills of ops between the two,
    which are integers, become 0 and a large number: the file is as fast as the float model, and
    computes other numbers where it clamps.
    """
    constants = {i.name: numpy_helper.to_array(i) for i in model.graph.initializer}
    renamed: dict[str, str] = {}
    nodes: list[onnx.NodeProto] = []
    widened: dict[str, int] = {}
    for node in model.graph.node:
        inputs = [renamed.get(name, name) for name in node.input]
        if node.op_type in _ROUNDS and inputs[0] in constants:
            constants[node.output[0]] = _real(node, [constants[name] for name in inputs])
        elif node.op_type in _ROUNDS or node.output[0].endswith(WIDENED):
            renamed[node.output[0]] = inputs[0]
            if node.op_type == "Pad":
                widened[node.output[0]] = int(constants[inputs[1]][5])
            elif node.input[0] in widened:
                widened[node.output[0]] = widened[node.input[0]]
        else:
            kept = onnx.NodeProto()
            kept.CopyFrom(node)
            kept.input[:] = inputs
            if more := widened.get(node.input[0]):
                constants[inputs[1]] = constants[inputs[1]][:, :-more]
            for name in kept.input:
                if name in constants and constants[name].dtype == np.uint8:
                    constants[name] = _bound(constants[name])
            nodes.append(kept)
    bare = onnx.ModelProto()
    bare.CopyFrom(model)
    for field in (bare.graph.node, bare.graph.initializer, bare.graph.value_info):
        del field[:]
    nodes += [
        onnx.helper.make_node("Identity", [renamed[output.name]], [output.name])
        for output in bare.graph.output
        if output.name in renamed
    ]
    bare.graph.node.extend(nodes)
    read = {name for node in nodes for name in node.input}
    bare.graph.initializer.extend(
        numpy_helper.from_array(array, name) for name, array in constants.items() if name in read
    )
    return bare


def _real(node: onnx.NodeProto, operands: list[np.ndarray]) -> np.ndarray:
    """What a DequantizeLinear of a constant gives; a constant that is to be rounded stays."""
    x, scale, *zeros = operands  # without a zero point: 0
    if node.op_type == "QuantizeLinear":
        return x
    axis = next((a.i for a in node.attribute if a.name == "axis"), 1)
    shape = [-1 if d == axis else 1 for d in range(x.ndim)] if scale.ndim else []
    real = x.astype(np.float32)
    if zeros:
        real = real - zeros[0].reshape(shape)
    return np.asarray(real * scale.reshape(shape), np.float32)


def _bound(level: np.ndarray) -> np.ndarray:
    return np.asarray(np.where(level > 128, 1e9, 0.0), np.float32)
