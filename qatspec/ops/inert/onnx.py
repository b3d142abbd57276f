"""Ops that change nothing in evaluation: no node; a guard replaces 0 by one step of its grid."""

from __future__ import annotations

import numpy as np
from torch import fx

from qatspec.qdq import QdqWriter
from qatspec.quant.guarded import GuardedOperand


def to_onnx(node: fx.Node, q: QdqWriter) -> str:
    return q.operand(node.args[0])


def write_guarded(node: fx.Node, q: QdqWriter) -> str:
    module, x, graph = q.context.module(node), q.operand(node.args[0]), q.graph
    assert isinstance(module, GuardedOperand)
    if module.step is None:
        return x
    step = graph.const(f"{node.name}.step", module.step.detach().cpu().numpy(), np.float32)
    is_zero = graph.node("Equal", [x, graph.const("zero", 0, np.float32)], f"{node.name}.is_zero")
    return graph.node("Where", [is_zero, step, x], node.name)
