"""Guard the operands of functions that have a pole or an infinite slope on their grid."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx

from qatspec.graph.context import GraphContext
from qatspec.graph.grids import fake_quant_before
from qatspec.prepare.functional import register
from qatspec.prepare.unit import Unit
from qatspec.quant.elementwise import OP, evaluated
from qatspec.quant.guarded import GuardedOperand

#: Where functions of torch are not finite, or have no finite slope: log, acos, atanh, logit.
_ENDS = (0.0, 1.0, -1.0)


def guard(unit: Unit) -> None:
    """Put a guard before every divisor, and before functions that need one. It lifts a 0 to one
    step of its grid where the function has a pole at 0."""
    context = unit.context
    context.forget_modules()
    for node in list(unit.graph.nodes):
        position = 1 if context.op(node) == "div" else 0
        operand = node.args[position] if len(node.args) > position else None
        lifts_zero = _lifts_zero(node, operand, context)
        fake_quant = None if lifts_zero is None else fake_quant_before(operand, context)
        if fake_quant is None:
            continue
        module = GuardedOperand(fake_quant, bool(lifts_zero))
        path = register(unit.module, f"{node.name}_guard", module)
        with unit.graph.inserting_before(node):
            guarded = unit.graph.call_module(path, (operand,))
        guarded.meta.update({**node.meta, "example": context.value(operand)})
        node.update_arg(position, guarded)
        context.forget_modules()


def _lifts_zero(node: fx.Node, operand: Any, context: GraphContext) -> bool | None:
    """Return whether the function has a pole at 0; None where it needs no guard."""
    op = context.op(node)
    if op == "div":
        return True if context.is_float_tensor(operand) else None
    if op == "pow":
        exponent = context.value([*node.args, node.kwargs.get("exponent")][1])
        number = isinstance(exponent, (int, float)) and (exponent < 0 or 0 < exponent < 1)
        return exponent < 0 if number else None
    if op == OP:
        return _tried(node, context)
    return {"rsqrt": True, "sqrt": False}.get(str(op))


def _tried(node: fx.Node, context: GraphContext) -> bool | None:
    module, shape = context.module(node), context.shape(node.args[0])
    constants = [context.constant(n) for n in node.args[1:]]
    x = torch.tensor(_ENDS, requires_grad=True)
    assert module is not None
    try:
        with torch.enable_grad():
            y = evaluated(module, constants, shape, x)
            (slopes,) = torch.autograd.grad(y.sum(), x)
    except Exception:  # noqa: BLE001 - a function without derivatives needs no guard for them
        return None
    return _not_finite(y[:1]) or (False if _not_finite(slopes) else None)


def _not_finite(x: Tensor) -> bool:
    return not bool(x.isfinite().all())
