"""Where integers begin and end: input ports and output tails."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import fx, nn

from qatspec.lower.closing import fake_quant_of, target_of
from qatspec.lower.context import Lowering, RealInput, Unlowerable
from qatspec.program.lowered import Sum, Term


def lower_input(node: fx.Node, lowering: Lowering, modules: Mapping[str, nn.Module]) -> Any:
    """A port on the grid of the fake-quants that read the input; they must agree.

    Gives the port's Sum, or RealInput where something else reads the input too: whoever that is
    fails with its own name and line.
    """
    found = {}
    for user in node.users:
        fake_quant = fake_quant_of(user, modules)
        if fake_quant is None:
            return RealInput(node.name)
        target = target_of(fake_quant, str(user.target))
        if target is not None:
            found[target] = str(user.target)
    if len(found) != 1:
        raise Unlowerable(
            "QS706",
            f"input `{node.name}` is quantized by {len(found)} scales"
            + (f" ({', '.join(sorted(found.values()))})" if found else ""),
            "quantize it once: quantize_input on the first module alone, or a fixed input scale",
        )
    target = next(iter(found))
    shape = lowering.shape(node)[1:]
    name = lowering.builder.input(node.name, target.dtype, shape, target.scale)
    return Sum((Term(name, np.array([np.float32(target.scale)], np.float64)),))


def lower_output(node: Any, lowering: Lowering) -> str:
    """The value that leaves for one output of the model: a quantized tensor, or a bare accumulator
    with its scale per channel (contracts 14)."""
    if not lowering.is_tensor(node):
        lowering.fail("the model returns something that is no tensor of its ops", code="QS703")
    x = lowering.value(node)
    settled = len(x.terms) == 1 and (not x.bounded or lowering.dtype(x.terms[0]) != "int32")
    term = lowering.passive(x) if settled else x.terms[0]
    if not settled or lowering.builder.values[term.value].scale is None:
        lowering.fail(
            f"output `{node.name}` is no quantized tensor and no bare accumulator: "
            + ("an activation follows its convolution" if x.bounded else "it is a sum"),
            "let the module end in a convolution, or set quantize_output: true",
            "QS703",
        )
    if any(term.value == port.name for port in lowering.builder.inputs):
        size = lowering.shape(node)[1:]  # an input handed through: a value of its own
        return lowering.keep("reshape", term, shape=size).terms[0].value
    return _with_scale(term, lowering)


def _with_scale(term: Term, lowering: Lowering) -> str:
    """A value that carries `term`'s scale: the value itself, or a copy where one integer tensor
    stands for two real ones (x and 2 * x)."""
    value = lowering.builder.values[term.value]
    scale = term.scale.astype(np.float32)
    if value.scale is not None and np.array_equal(value.scale, scale) and value.axis == term.axis:
        return term.value
    return lowering.keep("reshape", term, shape=value.shape).terms[0].value
