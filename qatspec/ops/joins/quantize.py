"""Joining tensors in integers."""

from __future__ import annotations

from torch import fx

from qatspec.diag.codes import QS703
from qatspec.graph.context import GraphContext
from qatspec.lowering import Lowering, ScaledInts, reshaped
from qatspec.ops.joins.calls import Join
from qatspec.types import Annotation, Observed


def annotate(node: fx.Node, context: GraphContext) -> Annotation:
    """One range for the whole result: parts on other scales are requantized to it."""
    return Annotation(output=Observed(), inputs=(0,))


def lower(node: fx.Node, lowering: Lowering) -> ScaledInts:
    """Parts on one scale are joined as they are; others are requantized to the result's."""
    call, shape = lowering.context.call(node, Join), lowering.shape()
    axis = call.dim % len(shape)
    parts = _on_one_grid(lowering, call)
    batch = lowering.batch_dim(parts[0]).batch
    if lowering.context.op(node) == "stack":
        before, wide = (*shape[:axis], *shape[axis + 1 :]), (*shape[:axis], 1, *shape[axis + 1 :])
        batch += axis <= batch
        parts = [reshaped(lowering, part, before, wide, batch) for part in parts]
    elif axis == batch:
        lowering.fail("it joins along the batch", "join along another dim")
    return lowering.emit("concat", [part.value for part in parts], parts[0].scale, axis=axis)


def _on_one_grid(lowering: Lowering, call: Join) -> list[ScaledInts]:
    parts, grid = lowering.values(call.tensors), lowering.grid()
    if grid is not None:
        name = lowering.node.name
        return [lowering.quantize(x, grid, f"{name}.part{i}") for i, x in enumerate(parts)]
    is_float = lowering.context.is_float_tensor(lowering.node)  # integers are on no grid
    terms = [(lowering.small_integers if is_float else lowering.single_term)(x) for x in parts]
    if len({(term.step, lowering.dtype(term)) for term in terms}) > 1:
        lowering.fail(
            "its parts have different scales and nothing quantizes its result",
            "set quantize_output: true, or return the parts one by one",
            QS703,
        )
    return terms
