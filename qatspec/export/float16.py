"""What an ONNX file computes in float, as float16; what it computes between roundings stays.

A runtime on a GPU computes float16 at twice the rate of float32 or more. A QAT ONNX is written with
Q/DQ, whose integers depend on the last bit of a float32: layers between a DequantizeLinear and a
QuantizeLinear keep float32, and so do layers with integer weights. Everything else (layers that no
rule quantizes, the parts on the host) gets float16, with a Cast at each border. Inputs and outputs
of the file stay float32.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from qatspec.diag import Span
from qatspec.diag.codes import QS727
from qatspec.export.runner import open_session
from qatspec.onnxgraph.seal import KEY

_ROUNDS = frozenset({"QuantizeLinear", "DequantizeLinear"})
#: Kinds whose second operand is a weight.
_WEIGHTED = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
#: The type by which the definitions of ops name float16, and its largest number.
_HALF = "tensor(float16)"
LARGEST = float(np.finfo(np.float16).max)


def in_float16(model: onnx.ModelProto, *, rounded: bool = False) -> onnx.ModelProto | None:
    """Return a copy whose float layers compute in float16; None where the file has none.

    model    what `export_qat_onnx` or `export_host` wrote, which is not changed.
    rounded  write layers of float32 whose operands and results are rounded to float16, as kernels
             of a GPU compute that add in float32. onnxruntime's CPU has few kernels of float16; it
             computes the file in float32 and omits the roundings between two layers.

    Constants beyond float16 become its largest numbers, +-65504.
    """
    graph = _Graph(onnx.shape_inference.infer_shapes(model).graph)
    halved = graph.halved(int(max(o.version for o in model.opset_import if o.domain == "")))
    if not halved:
        return None
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    kept = [p for p in copy.metadata_props if p.key != KEY]  # the seal of the other file
    for part in (copy.graph.node, copy.graph.initializer, copy.graph.value_info):
        del part[:]
    del copy.metadata_props[:]
    copy.metadata_props.extend(kept)
    _Writer(graph, halved, rounded).write(copy.graph)
    onnx.checker.check_model(copy, full_check=True)
    return copy


def demand_finite(path: Path, measured: Mapping[str, Distance]) -> None:
    """Raise DiagnosticError QS727 where an output of a float16 file is not finite.

    path: the file. measured: what `distances` gives of it.
    """
    spoilt = [name for name, distance in measured.items() if not distance.finite]
    if spoilt:
        raise QS727.error(
            f"`{path.name}`: on images of data.val, {', '.join(f'`{name}`' for name in spoilt)} "
            "has numbers that are not finite in float16 and are in float32",
            help="delete `float16`, or keep all numbers below 65504 in forward",
            span=Span(file=str(path)),
        )


@dataclass(slots=True)
class Distance:
    """How far an output of the float16 file is from float32's, on some inputs.

    largest  the largest number of float32's, without its sign.
    apart    the largest distance.
    finite   whether every number of the float16 file that float32's has finite is finite.
    """

    largest: float = 0.0
    apart: float = 0.0
    finite: bool = True

    def add(self, full: np.ndarray, half: np.ndarray) -> None:
        """Compare one run; integers (classes, places) by their values."""
        same_shape = full.shape == half.shape
        known = np.isfinite(full) if same_shape else np.zeros(0, bool)
        numbers = full[np.isfinite(full)].astype(np.float64)
        self.largest = max(self.largest, float(np.abs(numbers).max(initial=0)))
        if not same_shape:  # as many results as pass a threshold
            self.apart = float("inf")
            return
        other = half[known].astype(np.float64)
        self.finite = self.finite and bool(np.isfinite(other).all())
        self.apart = max(self.apart, float(np.abs(other - full[known]).max(initial=0)))


def distances(
    model: onnx.ModelProto, feeds: Sequence[Mapping[str, np.ndarray]]
) -> dict[str, Distance]:
    """Compare each output of a file in float32 with that in float16: the larger distance of the
    file as onnxruntime runs it here, and with every result rounded (`in_float16`).

    model: the file in float32. feeds: inputs by name, one mapping a run. Raises DiagnosticError
    QS723 without onnxruntime.
    """
    halves = [in_float16(model), in_float16(model, rounded=True)]
    full, *others = (
        open_session(m.SerializeToString(), 0) for m in (model, *halves) if m is not None
    )
    names = [port.name for port in full.get_outputs()]
    apart = {name: Distance() for name in names}
    for feed in feeds:
        expected = full.run(names, dict(feed))
        for session in others:
            for name, *pair in zip(names, expected, session.run(names, dict(feed)), strict=True):
                apart[name].add(*pair)
    return apart


#: The names of a node's results, which no other node has; names of nodes may be empty.
_Key = tuple[str, ...]
#: Nodes around a node; None: an input or output of the file.
_Neighbours = list[onnx.NodeProto | None]


def _key(node: onnx.NodeProto) -> _Key:
    return tuple(node.output)


@dataclass(frozen=True, slots=True)
class _Halved:
    """The places of a node's operands and results that become float16."""

    operands: Sequence[int] = ()
    results: Sequence[int] = ()


@dataclass
class _Graph:
    """A graph with the types of its values, who makes and who reads them."""

    proto: onnx.GraphProto
    constants: dict[str, onnx.TensorProto] = field(init=False)
    types: dict[str, int] = field(init=False)
    makers: dict[str, onnx.NodeProto] = field(init=False)
    readers: dict[str, list[onnx.NodeProto]] = field(init=False)

    def __post_init__(self) -> None:
        graph = self.proto
        self.constants = {tensor.name: tensor for tensor in graph.initializer}
        infos = (*graph.input, *graph.output, *graph.value_info)
        self.types = {info.name: info.type.tensor_type.elem_type for info in infos}
        self.types |= {name: tensor.data_type for name, tensor in self.constants.items()}
        self.makers = {name: node for node in graph.node for name in node.output}
        self.readers = defaultdict(list)
        for node in graph.node:
            for name in node.input:
                self.readers[name].append(node)

    def is_float(self, name: str) -> bool:
        return bool(self.types.get(name) == TensorProto.FLOAT)

    def halved(self, opset: int) -> dict[_Key, _Halved]:
        """The nodes that compute in float16, by `_key`."""
        behind = self._between(self.proto.node, self._operands)
        before = self._between(list(self.proto.node)[::-1], self._users)
        places_of: dict[_Key, _Halved] = {}
        for node in self.proto.node:
            integers = node.op_type in _ROUNDS or self._has_integer_weight(node)
            if integers or (_key(node) in behind and _key(node) in before):
                continue
            if (places := self._places(node, opset)) is not None:
                places_of[_key(node)] = places
        return places_of

    def _between(
        self, nodes: Sequence[onnx.NodeProto], neighbours: Callable[[onnx.NodeProto], _Neighbours]
    ) -> set[_Key]:
        """Nodes all of whose neighbours on one side are roundings, or again such nodes."""
        keys: set[_Key] = set()
        for node in nodes:
            near = neighbours(node)
            between = [n is not None and (n.op_type in _ROUNDS or _key(n) in keys) for n in near]
            if near and all(between) and not self._has_float_weight(node):
                keys.add(_key(node))
        return keys

    def _operands(self, node: onnx.NodeProto) -> _Neighbours:
        """Makers of the operands that are no constants; None: an input of the file."""
        names = [name for name in node.input if name and name not in self.constants]
        return [self.makers.get(name) for name in names]

    def _users(self, node: onnx.NodeProto) -> _Neighbours:
        """Readers of the results; None: an output of the file."""
        ends = {port.name for port in self.proto.output}
        users: _Neighbours = [r for name in node.output for r in self.readers[name]]
        return [*users, None] if ends & set(node.output) else users

    def _has_float_weight(self, node: onnx.NodeProto) -> bool:
        return node.op_type in _WEIGHTED and any(name in self.constants for name in node.input[1:2])

    def _has_integer_weight(self, node: onnx.NodeProto) -> bool:
        """Return whether a weight is the DequantizeLinear of a constant."""
        if node.op_type not in _WEIGHTED:
            return False
        makers = [self.makers.get(name) for name in node.input[1:2]]
        return any(
            m is not None and m.op_type == "DequantizeLinear" and m.input[0] in self.constants
            for m in makers
        )

    def _places(self, node: onnx.NodeProto, opset: int) -> _Halved | None:
        """Which operands and results become float16, by the types that the op allows. None: it
        has no form of float16, or it has graphs inside."""
        if node.domain or any(a.type == onnx.AttributeProto.GRAPH for a in node.attribute):
            return None
        schema = onnx.defs.get_schema(node.op_type, opset)
        allowed = {c.type_param_str: c.allowed_type_strs for c in schema.type_constraints}
        places = []
        for names, formal in ((node.input, schema.inputs), (node.output, schema.outputs)):
            kinds = [formal[min(i, len(formal) - 1)].type_str for i in range(len(names))]
            floats = [i for i, name in enumerate(names) if self.is_float(name)]
            places.append([(i, kinds[i]) for i in floats])
        operands, results = places
        halves = {kind for _, kind in operands if _HALF in allowed.get(kind, ())}
        if not halves or any(kind not in halves for _, kind in results):
            return None
        return _Halved([i for i, kind in operands if kind in halves], [i for i, _ in results])


class _Writer:
    """Writes the nodes again, with casts where float32 and float16 meet."""

    def __init__(self, graph: _Graph, halved: Mapping[_Key, _Halved], rounded: bool) -> None:
        self._graph, self._halved, self._rounded = graph, halved, rounded
        self._taken = {*graph.types, *graph.makers, *graph.constants}
        self._halves: dict[str, str] = {}
        self._full: set[str] = {port.name for port in graph.proto.output}
        for node in graph.proto.node:
            operands = halved.get(_key(node), _Halved()).operands
            self._full |= {name for i, name in enumerate(node.input) if i not in operands}
        self._constants: dict[str, onnx.TensorProto] = {}

    def write(self, target: onnx.GraphProto) -> None:
        for node in self._graph.proto.node:
            target.node.extend(self._nodes(node))
        read = {name for node in target.node for name in node.input}
        kept = (tensor for name, tensor in self._graph.constants.items() if name in read)
        target.initializer.extend((*kept, *self._constants.values()))

    def _nodes(self, node: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
        """The node, and the casts in front of it and behind it."""
        halved = self._halved.get(_key(node), _Halved())
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        for index in halved.operands:
            name = node.input[index]
            if name not in self._halves:
                self._halves[name] = self._fresh(name)
                if name in self._graph.constants:
                    self._constants[name] = self._constant(name)
                else:
                    yield from self._half(name, self._halves[name])
            copy.input[index] = self._halves[name]
        for index in halved.results:
            name = node.output[index]
            self._halves[name] = copy.output[index] = self._fresh(name)
            if self._rounded:
                copy.output[index] = self._fresh(name)
        yield copy
        for index in halved.results:
            name = node.output[index]
            if self._rounded:
                yield from self._half(copy.output[index], self._halves[name])
            if name in self._full:
                yield _cast(self._halves[name], name, TensorProto.FLOAT)

    def _half(self, name: str, result: str) -> Iterator[onnx.NodeProto]:
        """float32 as float16; `rounded`: as float32 again."""
        if not self._rounded:
            yield _cast(name, result, TensorProto.FLOAT16)
            return
        between = self._fresh(name)
        yield _cast(name, between, TensorProto.FLOAT16)
        yield _cast(between, result, TensorProto.FLOAT)

    def _fresh(self, name: str) -> str:
        unused, count = f"{name}.float16", 0
        while unused in self._taken:
            count += 1
            unused = f"{name}.float16_{count}"
        self._taken.add(unused)
        return unused

    def _constant(self, name: str) -> onnx.TensorProto:
        numbers = numpy_helper.to_array(self._graph.constants[name])
        within = np.where(np.isfinite(numbers), np.clip(numbers, -LARGEST, LARGEST), numbers)
        half = within.astype(np.float16)
        return numpy_helper.from_array(
            half.astype(np.float32) if self._rounded else half, self._halves[name]
        )


def _cast(name: str, result: str, to: int) -> onnx.NodeProto:
    return helper.make_node("Cast", [name], [result], name=f"{result}.cast", to=to)
