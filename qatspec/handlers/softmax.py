"""Softmax and its logarithm: exponentials below the maximum from a table, their sum, a quotient or
the logarithm of the sum from a second table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from torch import fx

from qatspec.graph.context import GraphContext
from qatspec.handlers.quotient import quotient
from qatspec.handlers.shape import expand
from qatspec.program.lowered import Sum, Term
from qatspec.program.model import RANGE
from qatspec.types import Annotation, Observed

if TYPE_CHECKING:
    from qatspec.lower.context import Lowering

#: Bits of the largest exponential, and of a sum of them.
_UNIT_BITS, _SUM_BITS = 20, 30


def annotate(node: fx.Node, context: GraphContext) -> Annotation:
    """Probabilities, or their logarithms, have a range of their own."""
    return Annotation(output=Observed())


def lower_softmax(node: fx.Node, lowering: Lowering) -> Sum:
    """exp(x - max) / sum exp(x - max): one rounding, of the quotient."""
    exponentials, total, _, _ = _exponentials(node, lowering)
    return quotient(lowering, exponentials, total)


def lower_log_softmax(node: fx.Node, lowering: Lowering) -> Sum:
    """x - max - log(sum exp(x - max)); the sum's logarithm is looked up by its 15 leading bits."""
    exponentials, total, x, axis = _exponentials(node, lowering)
    size = lowering.shape(node.args[0])[axis]
    least = round(1.0 / exponentials.step)
    shift = max((least * size).bit_length() - 15, 0)
    name = f"{node.name}.index"
    index = lowering.emit(
        "requant",
        (
            total.value,
            lowering.const("one", "int64", [1]),
            lowering.const("index.shift", "int64", [shift]),
        ),
        1.0,
        name=name,
        dtype="int16",
        axis=1,
        rounding="half_up",
        low=0,
        high=RANGE["int16"][1],
    ).terms[0]
    low, high = RANGE["int16"]
    sums = np.maximum(np.arange(low, high + 1), 1) * exponentials.step * 2.0**shift
    logarithms = np.log(np.maximum(sums, 1.0))
    step = 2.0**-20
    table = lowering.const("log", "int32", np.rint(logarithms / step))
    name = f"{node.name}.log"
    log = lowering.emit("lut", (index.value, table), step, name=name, dtype="int32").terms[0]
    most = lowering.keep("reduce_max", x, name=f"{node.name}.most", axes=(axis,), keepdim=True)
    shape = lowering.shape()
    narrow = (*shape[:axis], 1, *shape[axis + 1 :])
    terms = [x]
    for term in (most.terms[0], log):
        wide = expand(lowering, term, narrow, shape).scaled(-1.0)
        terms += wide.terms
    return Sum(tuple(terms))


def _exponentials(node: fx.Node, lowering: Lowering) -> tuple[Term, Term, Term, int]:
    """(exp(x - max), its sum along the axis, x, the axis)."""
    x = lowering.integer(node.args[0])
    shape = lowering.shape(node.args[0])
    dim: Any = lowering.context.setting(node, 1, "dim")
    if dim is None:  # torch's own choice, which it deprecates
        dim = 0 if len(shape) in (0, 1, 3) else 1
    axis = int(dim) % len(shape)
    if axis == lowering.layout(x).batch:
        lowering.fail("it sums over the batch", "name another dim")
    unit = min(1 << _UNIT_BITS, (1 << _SUM_BITS) // shape[axis])
    low, high = RANGE[lowering.dtype(x)]
    below = np.arange(high - low + 1, dtype=np.float64) * x.step
    table = lowering.const("exp", "int32", np.rint(unit * np.exp(-below)))
    exponentials = lowering.emit(
        "exp_below_max",
        (x.value, table),
        1.0 / unit,
        name=f"{node.name}.exp",
        dtype="int32",
        axis=axis,
    ).terms[0]
    total = lowering.keep(
        "reduce_sum", exponentials, name=f"{node.name}.sum", axes=(axis,), keepdim=True
    )
    return exponentials, total.terms[0], x, axis
