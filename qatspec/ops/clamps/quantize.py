"""Bounds, which the requantization after them applies."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor, fx

from qatspec.graph.clamps import bounds_of
from qatspec.graph.context import GraphContext
from qatspec.graph.discarded import may_pass
from qatspec.lowering import Lowering, PendingSum
from qatspec.types import Annotation, Observed, Shared


def annotate_relu(node: fx.Node, context: GraphContext) -> Annotation:
    """Zero is on every grid, so clamping at zero keeps the input's scale exactly. Behind padding
    by a constant, a range of its own."""
    return Annotation(output=Observed() if may_pass(node, context) else Shared())


def annotate_clamp(node: fx.Node, context: GraphContext) -> Annotation:
    """The bounds are rarely on the input's grid: a range of its own."""
    return Annotation(output=Observed())


def lower(node: fx.Node, lowering: Lowering) -> PendingSum:
    """Bounds on what comes before; the requantization that closes the group clamps."""
    bounds = bounds_of(node, lowering.context)
    low = -math.inf if bounds.low is None else _number(bounds.low, lowering)
    high = math.inf if bounds.high is None else _number(bounds.high, lowering)
    return lowering.value(node.args[0]).clamped(low, high)


def _number(bound: Any, lowering: Lowering) -> float:
    """A bound: a number, or a buffer that holds one, as it is now."""
    number = lowering.constant(bound)
    if isinstance(number, Tensor) and lowering.is_tensor(bound):
        lowering.fail("its bounds are computed from the input", "write torch.minimum(x, bound)")
    return float(number)
