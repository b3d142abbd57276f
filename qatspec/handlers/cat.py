"""Joining tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import fx

from qatspec.graph.context import GraphContext
from qatspec.program.lowered import Sum
from qatspec.types import Annotation, Observed

if TYPE_CHECKING:
    from qatspec.lower.context import Lowering


def annotate(node: fx.Node, context: GraphContext) -> Annotation:
    """One range for the whole result: parts on other scales are requantized to it."""
    return Annotation(output=Observed(), inputs=(0,))


def lower(node: fx.Node, lowering: Lowering) -> Sum:
    """Parts on one scale are joined as they are; others are requantized to the result's."""
    dim = lowering.context.argument(node, 1, "dim", 0)
    parts = lowering.values(node.args[0])
    shape = lowering.shape()
    axis = dim % len(shape)
    target = lowering.target()
    if target is None:
        counted = not lowering.context.is_float_tensor(node)  # whole numbers are on no grid
        terms = [(lowering.passive if counted else lowering.integer)(part) for part in parts]
        if len({(term.step, lowering.dtype(term)) for term in terms}) > 1:
            lowering.fail(
                "its parts have different scales and nothing quantizes its result",
                "set quantize_output: true, or return the parts one by one",
                "QS703",
            )
        closed = [Sum((term,)) for term in terms]
    else:
        closed = [
            lowering.quantize(part, target, f"{node.name}.part{i}") for i, part in enumerate(parts)
        ]
    batch = lowering.layout(closed[0].terms[0]).batch
    if lowering.context.op(node) == "stack":
        before, wide = (*shape[:axis], *shape[axis + 1 :]), (*shape[:axis], 1, *shape[axis + 1 :])
        batch += axis <= batch
        closed = [lowering.reshape(part.terms[0], before, wide, batch) for part in closed]
    elif axis == batch:
        lowering.fail("it joins along the batch", "join along another dim")
    names = [part.terms[0].value for part in closed]
    return lowering.emit("concat", names, closed[0].terms[0].scale, axis=axis)
