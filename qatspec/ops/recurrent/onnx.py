"""Recurrent layers in float ONNX, whose RNN, GRU and LSTM compute what torch's do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import fx, nn

from qatspec.qdq import QdqWriter

#: ONNX op -> its gates in the order of ONNX, as places in torch's order.
_GATES = {"RNN": (0,), "GRU": (1, 0, 2), "LSTM": (0, 3, 1, 2)}


def to_onnx(node: fx.Node, q: QdqWriter) -> Any:
    """One ONNX op a layer. A cell is a sequence of one step."""
    module, graph, name = q.context.module(node), q.graph, node.name
    states = _states(node, q)
    if isinstance(module, nn.RNNCellBase):
        axis = graph.const("axis", [0], np.int64)
        x = graph.node("Unsqueeze", [q.operand(node.args[0]), axis], f"{name}.step")
        first = [graph.node("Unsqueeze", [s, axis], f"{name}.{s}.layer") for s in states]
        _, *last = _layer(node, q, x, type(module).__name__.removesuffix("Cell"), [""], first)
        outputs = [graph.node("Squeeze", [state, axis], f"{state}.cell") for state in last]
        return outputs if len(outputs) > 1 else outputs[0]
    assert isinstance(module, nn.RNNBase)
    if module.proj_size or len(q.context.shape(node.args[0])) != 3:
        q.fail(node, f"{type(module).__name__} with a projection or without a batch")
    x = q.operand(node.args[0])
    if module.batch_first:
        x = graph.node("Transpose", [x], f"{name}.steps", perm=[1, 0, 2])
    ways = ["", "_reverse"] if module.bidirectional else [""]
    finals: list[list[str]] = []
    for layer in range(module.num_layers):
        part = slice(layer * len(ways), (layer + 1) * len(ways))
        first = [q.cut(state, 0, part, f"{name}.first") for state in states]
        suffixes = [f"_l{layer}{way}" for way in ways]
        y, *last = _layer(node, q, x, type(module).__name__, suffixes, first)
        finals.append(last)
        y = graph.node("Transpose", [y], f"{name}.ways", perm=[0, 2, 1, 3])
        shape = graph.const("shape", [0, 0, len(ways) * module.hidden_size], np.int64)
        x = graph.node("Reshape", [y, shape], f"{name}.{layer}")
    if module.batch_first:
        x = graph.node("Transpose", [x], name, perm=[1, 0, 2])
    last = [
        graph.node("Concat", list(s), f"{name}.last", axis=0) for s in zip(*finals, strict=True)
    ]
    return [x, last if len(last) > 1 else last[0]]


def _states(node: fx.Node, q: QdqWriter) -> list[str]:
    """The names of the states that the call is given, [] for zeros."""
    states: Any = node.args[1] if len(node.args) > 1 else None
    if states is None:
        return []
    if isinstance(q.context.value(states), (list, tuple)):
        return (
            [q.operand(s) for s in states] if isinstance(states, (list, tuple)) else q.names[states]
        )
    return [q.operand(states)]


def _layer(
    node: fx.Node, q: QdqWriter, x: str, op: str, suffixes: Sequence[str], states: Sequence[str]
) -> list[str]:
    """One layer in each direction. suffixes: of the names of its parameters, one a direction.
    Returns the results of all steps, and the states after the last."""
    module: Any = q.context.module(node)

    def gates(kind: str, suffix: str) -> np.ndarray:
        parts = np.split(getattr(module, f"{kind}{suffix}").detach().numpy(), len(_GATES[op]))
        return np.concatenate([parts[i] for i in _GATES[op]])

    def parameter(*kinds: str) -> str:
        stacked = [np.concatenate([gates(kind, s) for kind in kinds]) for s in suffixes]
        return q.parameter(node, f"{kinds[0]}{suffixes[0]}.onnx", np.stack(stacked))

    inputs = [x, parameter("weight_ih"), parameter("weight_hh")]
    inputs.append(parameter("bias_ih", "bias_hh") if module.bias else "")
    attrs: dict[str, Any] = {
        "hidden_size": module.hidden_size,
        "direction": "bidirectional" if len(suffixes) > 1 else "forward",
    }
    if op == "GRU":
        attrs["linear_before_reset"] = 1
    if op == "RNN":
        attrs["activations"] = [module.nonlinearity.capitalize()] * len(suffixes)
    results = [f"{node.name}.{part}" for part in ("y", "h", *(["c"] if op == "LSTM" else []))]
    return q.graph.results(op, [*inputs, "", *states], results, **attrs)
