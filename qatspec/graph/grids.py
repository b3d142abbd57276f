"""The grid that a tensor of a prepared graph is on."""

from __future__ import annotations

from typing import Any

from torch import fx

from qatspec.graph.context import GraphContext
from qatspec.quant.fake_quant import FakeQuantize
from qatspec.registry import registry
from qatspec.types import Shared


def fake_quant_before(node: Any, context: GraphContext) -> FakeQuantize | None:
    """Return the fake-quant that a tensor comes from, through ops that only move its numbers; None
    where it is on no grid."""
    while isinstance(node, fx.Node):
        module, op = context.module(node), context.op(node)
        if isinstance(module, FakeQuantize):
            return None if module.disabled else module
        handler = registry().handler_for(op) if op else None
        if handler is None or not isinstance(handler.annotate(node, context).output, Shared):
            return None
        node = node.args[0]
    return None
