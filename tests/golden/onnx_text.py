"""An ONNX file as stable text: a line for each input, node and output."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import onnx
from onnx import helper, numpy_helper


def onnx_text(path: Path) -> str:
    """The main graph. Constants by their values when small, else by the head of their sha256."""
    model = onnx.load(path)
    graph = model.graph
    constants = {t.name: _constant(numpy_helper.to_array(t)) for t in graph.initializer}
    opsets = ", ".join(f"{o.domain or 'ai.onnx'} {o.version}" for o in model.opset_import)
    lines = [f"onnx {opsets}"]
    lines += [f"in   {_port(port)}" for port in graph.input]
    for node in graph.node:
        operands = ", ".join(constants.get(name, name) or "-" for name in node.input)
        attributes = "".join(f" {a.name}={_attribute(a)}" for a in node.attribute)
        lines.append(f"     {', '.join(node.output)} = {node.op_type}({operands}){attributes}")
    lines += [f"out  {_port(port)}" for port in graph.output]
    return "\n".join(lines) + "\n"


def _port(port: Any) -> str:
    kind = port.type.tensor_type
    sizes = [size.dim_param or size.dim_value for size in kind.shape.dim]
    return f"{port.name}: {helper.tensor_dtype_to_np_dtype(kind.elem_type)} {sizes}"


def _constant(array: Any) -> str:
    if array.size <= 4:
        return f"{array.dtype}{array.reshape(-1).tolist()}"
    return f"{array.dtype}{list(array.shape)}#{hashlib.sha256(array.tobytes()).hexdigest()[:8]}"


def _attribute(attribute: Any) -> Any:
    value = helper.get_attribute_value(attribute)
    if isinstance(value, onnx.TensorProto):
        return _constant(numpy_helper.to_array(value))
    return value.decode() if isinstance(value, bytes) else value
