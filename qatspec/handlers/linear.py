"""Fully connected layers."""

from __future__ import annotations

from torch import fx

from qatspec.graph.context import GraphContext
from qatspec.types import Annotation, Float


def annotate(node: fx.Node, context: GraphContext) -> Annotation:
    """Weight per output feature, own output range, able to end in an int32 accumulator."""
    if context.module(node) is None:
        return Annotation(output=Float("its weight is computed from the input"))
    return Annotation(kind="anchor", has_weight=True, int32_tail=True)
