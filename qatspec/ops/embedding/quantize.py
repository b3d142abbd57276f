"""Rows of a table stay in float."""

from __future__ import annotations

from torch import fx

from qatspec.graph.context import GraphContext
from qatspec.types import Annotation, Float


def annotate(node: fx.Node, context: GraphContext) -> Annotation:
    """No march looks rows up in integers."""
    return Annotation(output=Float("embedding has no integer form"), inputs=())
