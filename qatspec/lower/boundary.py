"""The input ports and outputs of a Program."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import fx

from qatspec.diag.codes import QS703, QS706
from qatspec.graph.deploy import yields_tensor
from qatspec.lower.closing import fake_quant_of, grid_of
from qatspec.lowering import Grid, Lowering, PendingSum, RealInput, ScaledInts, Unlowerable, pending
from qatspec.registry import registry


def lower_input(node: fx.Node, lowering: Lowering) -> Any:
    """A port on the grid of the fake-quants that take the input in; they must agree.

    Gives the port's PendingSum, or RealInput where an op computes with the real input: that op
    fails with its own name and line.
    """
    grids: dict[Grid, str] = {}
    if not _grids(node, lowering, grids):
        return RealInput(node.name)
    if len(grids) != 1:
        raise Unlowerable(
            QS706,
            f"input `{node.name}` is quantized by {len(grids)} scales"
            + (f" ({', '.join(sorted(grids.values()))})" if grids else ""),
            "quantize it once: quantize_input on the first module alone, or a fixed input scale",
        )
    return input_port(node, next(iter(grids)), lowering)


def input_port(node: fx.Node, grid: Grid, lowering: Lowering) -> PendingSum:
    """A port of the Program with the integers of `grid` for a node's tensor."""
    shape = lowering.shape(node)[1:]
    name = lowering.builder.input(node.name, grid.dtype, shape, grid.scale)
    return pending(ScaledInts(name, np.array([np.float32(grid.scale)], np.float64)))


def _grids(node: fx.Node, lowering: Lowering, grids: dict[Grid, str]) -> bool:
    """Collect the grids of the fake-quants that read `node`, directly or through ops that only move
    numbers. Return False where another op of the chip reads it before a fake-quant."""
    context = lowering.context
    for user in node.users:
        if user in lowering.host or not yields_tensor(user):
            continue  # it reads the shape alone
        fake_quant = fake_quant_of(user, context.modules)
        if fake_quant is None:
            op = context.op(user)
            handler = registry().handler_for(op) if op else None
            if handler is None:
                return False
            with registry().attribute_errors(
                handler, f"handler `{handler.name}`, annotating `{user.name}`,"
            ):
                if handler.annotate(user, context).kind != "passive":
                    return False
        grid = grid_of(fake_quant, str(user.target)) if fake_quant is not None else None
        if grid is not None:
            grids[grid] = str(user.target)
        elif not _grids(user, lowering, grids):
            return False
    return True


def lower_output(node: Any, lowering: Lowering) -> str:
    """The value that leaves for one output of the model: a quantized tensor, or a bare accumulator
    with its scale per channel (rule: int32 tails)."""
    if not lowering.is_tensor(node):
        lowering.fail(
            f"the model returns `{node}`, which is not a tensor that its ops compute",
            "return only tensors, in tuples, lists and dicts, and constants: no size that follows "
            "the batch",
            QS703,
        )
    x = lowering.value(node)
    settled = len(x.terms) == 1 and (not x.bounded or lowering.dtype(x.terms[0]) != "int32")
    term = lowering.single_term(x) if settled else x.terms[0]
    if not settled or lowering.builder.values[term.value].scale is None:
        lowering.fail(
            f"output `{node.name}` is neither a quantized tensor nor an accumulator: "
            + ("an activation follows its convolution" if x.bounded else "it is a sum"),
            "let the module end in a convolution, or set quantize_output: true",
            QS703,
        )
    if not lowering.batch_dim(term).is_first:
        lowering.fail(
            f"output `{node.name}` has no dim in front that is the batch alone",
            "permute or reshape it to (batch, ...) before it is returned",
            QS703,
        )
    if any(term.value == port.name for port in lowering.builder.inputs):
        size = lowering.shape(node)[1:]  # an input that is returned becomes another value
        return lowering.emit_same_scale("reshape", term, shape=size).value
    return _with_scale(term, lowering)


def _with_scale(term: ScaledInts, lowering: Lowering) -> str:
    """A value that carries `term`'s scale: the value itself, or a copy where one integer tensor
    represents two real ones (x and 2 * x)."""
    value = lowering.builder.values[term.value]
    scale = term.scale.astype(np.float32)
    if value.scale is not None and np.array_equal(value.scale, scale) and value.axis == term.axis:
        return term.value
    return lowering.emit_same_scale("reshape", term, shape=value.shape).value
