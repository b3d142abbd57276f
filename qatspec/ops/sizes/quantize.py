"""Sizes are numbers: there is nothing to quantize."""

from __future__ import annotations

from torch import fx

from qatspec.graph.context import GraphContext
from qatspec.types import Annotation, Float


def annotate(node: fx.Node, context: GraphContext) -> Annotation:
    """Reached by an attribute that is a tensor, such as x.grad."""
    return Annotation(output=Float("an attribute of a tensor has no integer form"), inputs=())
