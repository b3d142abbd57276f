"""Choices by booleans as products and sums: torch.where(m, a, b) is a * m + b * (1 - m). The masks
of a softmax, which a number far below all others fills, get one that integers can hold."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import fx, nn

from qatspec.graph.constants import evaluate, is_constant
from qatspec.graph.ops import canonical_op, has_trait
from qatspec.prepare.appending import Appending
from qatspec.prepare.decompose import MASKED, replace_by
from qatspec.types import OpTrait


def as_products(root: nn.Module, graph: fx.Graph) -> None:
    """Replace choices by products and sums, and comparisons of two tensors by the sign of their
    difference."""
    for definitions in (_COMPARISONS, _CHOICES):
        for node in list(graph.nodes):
            known = node.op in ("call_function", "call_method") and "example" in node.meta
            definition = definitions.get(node.target) if known else None
            if definition is not None and not is_constant(node):
                replace_by(definition, root, graph, node)


def _compared(compare: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    def definition(x: Any, y: Any) -> Any:
        return compare(x - y, 0) if _is_float(x) and _is_float(y) else NotImplemented

    return definition


def _where(condition: Any, a: Any, b: Any) -> Any:
    if _is_masked(a, b):
        return b + condition.to(_example(b).dtype) * MASKED
    if _is_masked(b, a):
        return a + torch.logical_not(condition).to(_example(a).dtype) * MASKED
    dtype = next((_example(v).dtype for v in (a, b) if _is_float(v)), None)
    if dtype is None or not _is_boolean(condition):
        return NotImplemented
    if any(isinstance(v, float) and not math.isfinite(v) for v in (a, b)):
        return NotImplemented
    one = condition.to(dtype)
    other = torch.logical_not(condition).to(dtype) if is_constant(condition) else 1 - one
    terms = [mask * value for mask, value in ((one, a), (other, b)) if not _is_zero(value)]
    return terms[0] if len(terms) == 1 else terms[0] + terms[1]


def _is_masked(value: Any, x: Any) -> bool:
    """Whether a value, in place of some of x, has no share in a softmax that alone reads both."""
    if not _is_read_by_softmax(x):
        return False
    number = _numbers(value)
    return number is not None and number.numel() == 1 and float(number) <= 2 * MASKED


def _sum(x: Any, y: Any) -> Any:
    """Scores and a constant mask, in place of whose -inf, or of a number that is used for it,
    MASKED is added where softmaxes alone read the sum."""
    for scores, mask in ((x, y), (y, x)):
        if _is_read_by_softmax(scores) and _is_mask(mask):
            return scores + torch.clamp(mask, min=MASKED)
    return NotImplemented


def _is_mask(x: Any) -> bool:
    """Whether x is a constant some of whose numbers are far below all others."""
    numbers = _numbers(x)
    if numbers is None:
        return False
    far = numbers <= 2 * MASKED
    near = numbers.abs() <= -MASKED
    return bool(far.any()) and bool(near.any()) and bool((far | near).all())


def _numbers(value: Any) -> torch.Tensor | None:
    """The numbers of a constant of floats, None for anything else."""
    if not is_constant(value) or not (isinstance(value, int | float) or _is_float(value)):
        return None
    if isinstance(value, fx.Proxy):
        value = evaluate(_tracer(value).module, value.node)
    return torch.as_tensor(value)


def _is_read_by_softmax(x: Any) -> bool:
    """Whether softmaxes alone read the result of the call that is replaced, x a float tensor that
    it reads; what stands between may move its numbers."""
    if not isinstance(x, fx.Proxy) or not _is_float(x) or is_constant(x):
        return False
    modules = dict(_tracer(x).module.named_modules(remove_duplicate=False))
    waiting = [_tracer(x).origin]
    while waiting:
        users = waiting.pop().users
        if not users:
            return False
        for user in users:
            op = canonical_op(user, modules)
            if has_trait(op, OpTrait.REARRANGES):
                waiting.append(user)
            elif op != "softmax":
                return False
    return True


def _tracer(x: fx.Proxy) -> Appending:
    assert isinstance(x.tracer, Appending)
    return x.tracer


def _masked_fill(x: Any, mask: Any, value: Any) -> Any:
    return _where(mask, value, x)


def _product(x: Any, y: Any) -> Any:
    """A factor of booleans as one of numbers."""
    if not (_is_boolean(x) and _is_float(y)) and not (_is_boolean(y) and _is_float(x)):
        return NotImplemented
    x, y = (
        v.to(_example(w).dtype) if _is_boolean(v) and _is_float(w) else v
        for v, w in ((x, y), (y, x))
    )
    return x * y


def _example(value: Any) -> Any:
    return value.node.meta["example"] if isinstance(value, fx.Proxy) else value


def _is_float(value: Any) -> bool:
    example = _example(value)
    return isinstance(example, torch.Tensor) and example.is_floating_point()


def _is_boolean(value: Any) -> bool:
    example = _example(value)
    return isinstance(example, torch.Tensor) and example.dtype == torch.bool


def _is_zero(value: Any) -> bool:
    return isinstance(value, (int, float)) and value == 0


_COMPARISONS: Mapping[Any, Callable[..., Any]] = {
    key: _compared(getattr(operator, name))
    for name in ("gt", "ge", "lt", "le", "eq", "ne")
    for key in (getattr(operator, name), getattr(torch, name), name)
}
_CHOICES: Mapping[Any, Callable[..., Any]] = {
    torch.where: _where,
    "where": lambda x, condition, other: _where(condition, x, other),
    **dict.fromkeys((torch.masked_fill, "masked_fill"), _masked_fill),
    **dict.fromkeys((operator.mul, torch.mul, "mul"), _product),
    **dict.fromkeys((operator.add, torch.add, "add"), _sum),
}
