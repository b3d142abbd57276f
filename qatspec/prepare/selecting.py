"""Choices by booleans as products and sums: torch.where(m, a, b) is a * m + b * (1 - m)."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import fx, nn

from qatspec.graph.ops import canonical_op
from qatspec.prepare.appending import is_constant
from qatspec.prepare.decompose import MASKED, replace_by


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
    if not isinstance(value, (int, float)) or value > 2 * MASKED or not _is_float(x):
        return False
    modules = dict(x.tracer.module.named_modules(remove_duplicate=False))
    readers = x.tracer.origin.users
    return bool(readers) and all(canonical_op(n, modules) == "softmax" for n in readers)


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
}
