"""A small ONNX writer: nodes and initializers in order, names kept, dynamic batch."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from qatspec.files import write_file
from qatspec.onnxgraph.seal import sealed

BATCH = "batch"


class GraphWriter:
    """Collects a graph. `node` names results after what they compute."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: dict[str, onnx.TensorProto] = {}
        self.inputs: list[onnx.ValueInfoProto] = []
        self.outputs: list[onnx.ValueInfoProto] = []
        self._taken: set[str] = set()
        self._renamed: dict[str, str] = {}
        self._shared: dict[tuple[str, tuple[int, ...], bytes], str] = {}

    def fresh(self, name: str) -> str:
        """`name`, or `name_1` ... where it is taken."""
        unused, count = name, 0
        while unused in self._taken:
            count += 1
            unused = f"{name}_{count}"
        self._taken.add(unused)
        return unused

    def const(self, name: str, array: Any, dtype: Any, *, shared: bool = True) -> str:
        """An initializer. shared: equal ones are written once."""
        stored = np.asarray(array, dtype, order="C")  # a scalar stays one
        if not shared:
            name = self.fresh(name)
            self.initializers[name] = numpy_helper.from_array(stored, name)
            return name
        key = (stored.dtype.str, stored.shape, stored.tobytes())
        if key not in self._shared:
            self._shared[key] = self.fresh(name)
            proto = numpy_helper.from_array(stored, self._shared[key])
            self.initializers[self._shared[key]] = proto
        return self._shared[key]

    def node(
        self, op: str, inputs: Sequence[str], name: str, *, doc: str = "", **attrs: Any
    ) -> str:
        """Add a node with one result and return the name of the result."""
        output = self.fresh(name)
        proto = helper.make_node(op, list(inputs), [output], name=output, **attrs)
        proto.doc_string = doc
        self.nodes.append(proto)
        return output

    def results(
        self, op: str, inputs: Sequence[str], names: Sequence[str], **attrs: Any
    ) -> list[str]:
        """Add a node with several results and return the names of the results."""
        outputs = [self.fresh(name) for name in names]
        self.nodes.append(helper.make_node(op, list(inputs), outputs, name=outputs[0], **attrs))
        return outputs

    def rename(self, name: str, new: str, since: int) -> str:
        """Give result `name` of one of the nodes from number `since` on another name; `name` is
        free then. Returns the new name."""
        new = self.fresh(new)
        for node in self.nodes[since:]:
            node.input[:] = [new if i == name else i for i in node.input]
            if name in node.output:
                node.output[:] = [new if o == name else o for o in node.output]
                node.name = new
        self._taken.remove(name)
        return new

    def drop_unread(self, op: str) -> None:
        """Drop the nodes of this kind whose results nothing reads."""
        read = {name for node in self.nodes for name in node.input}
        read |= {port.name for port in self.outputs}
        self.nodes = [n for n in self.nodes if n.op_type != op or read & set(n.output)]

    def cast(self, x: str, dtype: Any, name: str) -> str:
        """x as another numpy dtype."""
        return self.node("Cast", [x], name, to=onnx_type(dtype))

    def input(self, name: str, dtype: Any, shape: Sequence[int | str]) -> str:
        """A graph input; `BATCH` is the first of its sizes."""
        name = self.fresh(name)
        self.inputs.append(helper.make_tensor_value_info(name, onnx_type(dtype), list(shape)))
        return name

    def output(self, value: str, name: str, dtype: Any, shape: Sequence[int | str]) -> None:
        """A graph output `name` of these sizes, the result `value`, which is renamed where it can
        be: onnxruntime 1.32 fails on some files with an Identity of a result that is read as well
        (its PadFusion)."""
        value = self._renamed.get(value, value)
        outputs = {port.name for port in self.outputs}
        made = any(value in node.output for node in self.nodes)
        if made and value != name and value not in outputs and name not in self._taken:
            self._renamed[value] = self.rename(value, name, 0)
            value = name
        elif value != name or value in outputs:
            value = self.node("Identity", [value], name)
        self.outputs.append(helper.make_tensor_value_info(value, onnx_type(dtype), list(shape)))

    def model(self, opset: int, metadata: Mapping[str, str]) -> onnx.ModelProto:
        """The checked model."""
        graph = helper.make_graph(
            self.nodes, self.name, self.inputs, self.outputs, list(self.initializers.values())
        )
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", opset)],
            ir_version=8 if opset < 19 else 10,
            producer_name="qatspec",
        )
        helper.set_model_props(model, dict(metadata))
        onnx.checker.check_model(model, full_check=True)
        return model

    def write(
        self, path: str | os.PathLike[str], opset: int, metadata: Mapping[str, str]
    ) -> onnx.ModelProto:
        """Check the model and write it at once; the same graph gives the same bytes."""
        model = self.model(opset, metadata)
        write_file(path, sealed(model.SerializeToString(deterministic=True)))
        return model


def onnx_type(dtype: Any) -> int:
    """TensorProto element type of a numpy dtype."""
    return int(helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))
