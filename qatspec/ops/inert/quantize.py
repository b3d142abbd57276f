"""Ops that change nothing in evaluation: the same integers."""

from __future__ import annotations

from torch import fx

from qatspec.graph.context import GraphContext
from qatspec.lowering import Lowering, PendingSum
from qatspec.types import Annotation, Shared


def annotate(node: fx.Node, context: GraphContext) -> Annotation:
    """The input's scale, exactly."""
    return Annotation(output=Shared(), kind="passive")


def lower(node: fx.Node, lowering: Lowering) -> PendingSum:
    return lowering.value(node.args[0])
