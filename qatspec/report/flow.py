"""What a picture of a prepared model shows: its groups of fused ops, and on which integers the
tensors between them are."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import cast

from torch import fx

from qatspec.graph import Decision, DecisionKind, Prepared
from qatspec.graph.context import GraphContext
from qatspec.graph.deploy import deploy_graph, yields_tensor
from qatspec.graph.ops import has_trait
from qatspec.lower.closing import fake_quant_of
from qatspec.lower.origin import origins
from qatspec.quant.fold import QuantFold
from qatspec.types import OpTrait

FLOAT, TAIL = "float", "int32"


@dataclass(slots=True)
class Box:
    """Ops that run as one.

    ops     canonical names in order; "input", "output" for the ends.
    module  absolute path of the module that owns the first op.
    shape   of the result, without the batch.
    dtype   of the result: "qint8", ..., "int32" for a tail, "float".
    decision: what `check` says of it; None outside the prepared modules.
    """

    ops: list[str]
    module: str
    shape: tuple[int, ...] = ()
    dtype: str = FLOAT
    decision: Decision | None = None


@dataclass(slots=True)
class Flow:
    """boxes in the order in which they run; edges: (producer, consumer) by index, each once."""

    boxes: list[Box] = field(default_factory=list)
    edges: list[tuple[int, int]] = field(default_factory=list)


def flow(prepared: Prepared) -> Flow:
    """The deploy model (eval mode, images in, raw outputs out) as boxes and edges.

    Raises DiagnosticError QS5xx where the model cannot be traced.
    """
    graph = deploy_graph(prepared, prepared.example_inputs)
    context = GraphContext(prepared.model, graph, prepared.march)
    origin = origins(prepared)
    drawing = Flow()
    box_of: dict[fx.Node, int] = {}
    open_groups: dict[str, int] = {}
    for node in graph.nodes:
        sources = [box_of[n] for n in node.all_input_nodes if n in box_of]
        if node.op == "output":
            _leave(drawing, node, box_of)
        elif context.is_constant(node) or not yields_tensor(node):
            continue  # parameters, quantized ones too, are part of what reads them
        elif (fake_quant := fake_quant_of(node, context.modules)) is not None:
            box_of[node] = sources[0]
            box = drawing.boxes[sources[0]]
            box.dtype = box.dtype if fake_quant.disabled else fake_quant.qspec.dtype
        else:
            decision = prepared.decisions.get(origin(node).node)
            key = decision.node if decision and decision.group else ""
            known = open_groups.get(key)
            index = known if known is not None and known in sources else len(drawing.boxes)
            if index == len(drawing.boxes):
                drawing.boxes.append(Box([], origin(node).module, decision=decision))
                open_groups[key] = index
            box = drawing.boxes[index]
            box.ops += _names(node, context)
            box.shape = _shape(context, node)
            box.dtype = _dtype(node, box, [drawing.boxes[s] for s in sources])
            drawing.edges += [(s, index) for s in dict.fromkeys(sources) if s != index]
            box_of[node] = index
    drawing.edges = list(dict.fromkeys(drawing.edges))
    return drawing


def _dtype(node: fx.Node, box: Box, sources: list[Box]) -> str:
    """What an op's result is on before a fake-quant closes it: a shared scale stays what it is."""
    decision = box.decision
    if decision is None or node.op == "placeholder":
        return FLOAT
    if decision.kind is DecisionKind.SHARED and sources:
        return sources[0].dtype
    accumulates = has_trait(decision.op, OpTrait.WEIGHT) and decision.weight is not None
    return TAIL if accumulates else FLOAT


def _leave(drawing: Flow, node: fx.Node, box_of: dict[fx.Node, int]) -> None:
    """One box for each tensor that leaves the model."""
    for source in node.all_input_nodes:
        if source in box_of:
            producer = drawing.boxes[box_of[source]]
            drawing.boxes.append(Box(["output"], producer.module, producer.shape, producer.dtype))
            drawing.edges.append((box_of[source], len(drawing.boxes) - 1))


def _names(node: fx.Node, context: GraphContext) -> list[str]:
    if node.op == "placeholder":
        return ["input"]
    name = context.label(node)
    return [name, "batch_norm"] if isinstance(context.module(node), QuantFold) else [name]


def _shape(context: GraphContext, node: fx.Node) -> tuple[int, ...]:
    value = context.value(node)
    value = value[0] if isinstance(value, (list, tuple)) else value
    return cast("tuple[int, ...]", tuple(value.shape[1:]))
