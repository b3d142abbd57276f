"""A float ONNX of a newer opset in opset 11, which the tools of chip vendors take."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
from onnx import defs, helper, numpy_helper, shape_inference

OPSET, IR_VERSION = 11, 6

#: op -> (place of an operand that opset 11 has as an attribute, its name).
_AS_ATTRIBUTE = {
    "ReduceSum": (1, "axes"),
    "Squeeze": (1, "axes"),
    "Unsqueeze": (1, "axes"),
    "Split": (1, "split"),
}
#: Ops that opset 11 computes over the last dims together, and newer ones over a single dim.
_LAST_DIM = {"Softmax", "LogSoftmax", "Hardmax"}


class NotInOpset11(Exception):
    """An op of the file has no form in opset 11; the message says which, and why."""


def in_opset_11(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy of a float model in opset 11.

    model: with static shapes. Raises NotInOpset11 for an op that opset 11 does not have in the form
    in which the model uses it. Source: the definitions of ops of the package onnx.
    """
    older = onnx.ModelProto()
    older.CopyFrom(model)
    constants = {i.name: numpy_helper.to_array(i) for i in model.graph.initializer}
    ranks = _ranks(model)
    graph = older.graph
    del graph.node[:]
    added: dict[str, np.ndarray] = {}
    for node in model.graph.node:
        graph.node.extend(_nodes(node, constants, ranks, added))
    read = {name for node in graph.node for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in read]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    graph.initializer.extend(numpy_helper.from_array(array, n) for n, array in added.items())
    del older.opset_import[:]
    older.opset_import.append(helper.make_opsetid("", OPSET))
    older.ir_version = IR_VERSION
    try:
        onnx.checker.check_model(older, full_check=True)
    except (onnx.checker.ValidationError, shape_inference.InferenceError) as error:
        raise NotInOpset11(str(error).partition("\n")[0]) from error
    return older


def _ranks(model: onnx.ModelProto) -> dict[str, int]:
    """The number of dims of every value whose shape is known."""
    graph = shape_inference.infer_shapes(model).graph
    return {
        value.name: len(value.type.tensor_type.shape.dim)
        for value in (*graph.input, *graph.value_info, *graph.output)
    }


def _nodes(
    node: onnx.NodeProto,
    constants: dict[str, np.ndarray],
    ranks: dict[str, int],
    added: dict[str, np.ndarray],
) -> Iterator[onnx.NodeProto]:
    copied = onnx.NodeProto()
    copied.CopyFrom(node)
    op = node.op_type
    if node.domain:
        raise NotInOpset11(f"{op} is no op of ONNX itself")
    if op == "HardSwish":  # x * max(0, min(1, x / 6 + 1 / 2))
        gate = f"{node.output[0]}.gate"
        yield helper.make_node("HardSigmoid", [node.input[0]], [gate], alpha=1 / 6, beta=0.5)
        yield helper.make_node("Mul", [node.input[0], gate], [node.output[0]])
        return
    try:
        schema = defs.get_schema(op, OPSET)
    except defs.SchemaError as error:
        raise NotInOpset11(f"opset {OPSET} has no {op}") from error
    attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    if op in _AS_ATTRIBUTE and len(node.input) > 1:
        at, name = _AS_ATTRIBUTE[op]
        if node.input[at] not in constants:
            raise NotInOpset11(f"opset {OPSET} has {op} with constant {name} alone")
        copied.attribute.append(helper.make_attribute(name, constants[node.input[at]].tolist()))
        del copied.input[at]
    if op in _LAST_DIM:
        rank = ranks.get(node.input[0], 0)
        axis = attributes.get("axis", -1)
        if not rank or axis not in (-1, rank - 1):
            raise NotInOpset11(f"opset {OPSET} has {op} along the last dim alone")
        del copied.attribute[:]
        copied.attribute.append(helper.make_attribute("axis", rank - 1))
    if op == "Resize":
        for at in (1, 2):  # a region and scales, which a newer opset leaves out
            if len(copied.input) > at and not copied.input[at]:
                copied.input[at] = _empty(added)
    unknown = {a.name for a in copied.attribute} - set(schema.attributes)
    if unknown:
        raise NotInOpset11(f"{op} of opset {OPSET} has no attribute `{sorted(unknown)[0]}`")
    yield copied


def _empty(added: dict[str, np.ndarray]) -> str:
    name = "handoff.empty"
    added[name] = np.zeros(0, np.float32)
    return name
