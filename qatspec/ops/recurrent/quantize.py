"""Recurrent layers stay in float."""

from __future__ import annotations

from torch import fx

from qatspec.graph.context import GraphContext
from qatspec.types import Annotation, Float


def annotate(node: fx.Node, context: GraphContext) -> Annotation:
    """Leave it in float: the error of a rounded state would grow from step to step."""
    kind = type(context.module(node)).__name__
    reason = f"{kind} has no integer form: each step reads the rounded state of the one before it"
    return Annotation(output=Float(reason), inputs=())
