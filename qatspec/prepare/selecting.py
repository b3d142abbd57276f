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
from qatspec.prepare.appending import Appending, is_table
from qatspec.prepare.decompose import MASKED, replace_by
from qatspec.types import OpTrait


def as_products(root: nn.Module, graph: fx.Graph) -> None:
    """Replace choices by products and sums, comparisons of two tensors by the sign of their
    difference, and masks of a softmax by ones that integers can hold."""
    for definitions in (_COMPARISONS, _MASKS, _CHOICES):
        scores = _scores(root, graph) if definitions is _MASKS else None
        for node in list(graph.nodes):
            known = node.op in ("call_function", "call_method") and "example" in node.meta
            definition = definitions.get(node.target) if known else None
            if definition is None or (scores is not None and node not in scores):
                continue
            if not is_constant(node):
                replace_by(definition, root, graph, node)


def _scores(root: nn.Module, graph: fx.Graph) -> set[fx.Node]:
    """The nodes whose numbers softmaxes alone read, perhaps in another shape."""
    modules, scores = dict(root.named_modules(remove_duplicate=False)), set[fx.Node]()
    softmaxes, moves = set[fx.Node](), set[fx.Node]()
    for node in reversed(graph.nodes):
        users = [n for n in node.users if n.target is not getattr]  # its shape, its device
        if users and all(n in softmaxes or (n in moves and n in scores) for n in users):
            scores.add(node)
        op = canonical_op(node, modules)
        if op == "softmax":
            softmaxes.add(node)
        elif has_trait(op, OpTrait.REARRANGES):
            moves.add(node)
    return scores


def _compared(compare: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    def definition(x: Any, y: Any) -> Any:
        return compare(x - y, 0) if _is_float(x) and _is_float(y) else NotImplemented

    return definition


def _where(condition: Any, a: Any, b: Any) -> Any:
    dtype = next((_example(v).dtype for v in (a, b) if _is_float(v)), None)
    if dtype is None or not _is_boolean(condition):
        return NotImplemented
    if any(isinstance(v, float) and not math.isfinite(v) for v in (a, b)):
        return NotImplemented
    one = condition.to(dtype)
    other = torch.logical_not(condition).to(dtype) if is_constant(condition) else 1 - one
    terms = [mask * value for mask, value in ((one, a), (other, b)) if not _is_zero(value)]
    return terms[0] if len(terms) == 1 else terms[0] + terms[1]


# -- masks of a softmax ----------------------------------------------------------------------------


def _masked_where(condition: Any, a: Any, b: Any) -> Any:
    """A number far below all others in place of some scores has no share in their softmax."""
    if _is_far(a) and _is_float(b):
        return b + condition.to(_example(b).dtype) * MASKED
    if _is_far(b) and _is_float(a):
        return a + torch.logical_not(condition).to(_example(a).dtype) * MASKED
    return NotImplemented


def _is_far(value: Any) -> bool:
    numbers = _numbers(value)
    return numbers is not None and numbers.numel() == 1 and float(numbers) <= 2 * MASKED


def _masked_sum(x: Any, y: Any) -> Any:
    """Scores and a constant mask, in place of whose -inf, or of a number that is used for it,
    MASKED is added. A sum of a learned bias and a mask is added term by term."""
    for scores, mask in ((x, y), (y, x)):
        if not isinstance(mask, fx.Proxy) or not isinstance(scores, fx.Proxy):
            continue
        numbers = None if is_table(scores.node) else _numbers(mask)
        if numbers is None or not _is_mask(numbers):
            continue
        if not _is_learned(mask, scores):
            return operator.add(scores, _tracer(scores).buffer(numbers.clamp(min=MASKED)))
        if (
            _MASKS.get(mask.node.target) is _masked_sum and len(mask.node.args) == 2
        ):  # a learned bias and a mask
            total: Any = scores
            for part in mask.node.args:
                term = fx.Proxy(part, scores.tracer) if isinstance(part, fx.Node) else part
                masked = _masked_sum(total, term)
                total = total + term if masked is NotImplemented else masked
            return total
    return NotImplemented


def _is_mask(numbers: torch.Tensor) -> bool:
    """Whether some numbers are far below all others."""
    far, near = numbers <= 2 * MASKED, numbers.abs() <= -MASKED
    return bool(far.any()) and bool(near.any()) and bool((far | near).all())


def _is_learned(mask: fx.Proxy, scores: fx.Proxy) -> bool:
    """Whether a mask is computed from parameters, or has a number for each image of the batch."""
    if _example(mask).ndim == _example(scores).ndim and _example(mask).shape[0] > 1:
        return True
    module = _tracer(scores).module
    waiting, visited = [mask.node], {mask.node}
    while waiting:
        node = waiting.pop()
        stored = operator.attrgetter(str(node.target))(module) if node.op == "get_attr" else None
        if isinstance(stored, nn.Parameter):
            return True
        waiting += [n for n in node.all_input_nodes if n not in visited]
        visited.update(node.all_input_nodes)
    return False


def _numbers(value: Any) -> torch.Tensor | None:
    """The numbers of a constant of floats, perhaps made from sizes; None for anything else."""
    if not isinstance(value, int | float) and not _is_float(value):
        return None
    if isinstance(value, fx.Proxy):
        if not is_table(value.node):
            return None
        value = evaluate(_tracer(value).module, value.node)
    return torch.as_tensor(value)


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
}
_MASKS: Mapping[Any, Callable[..., Any]] = {
    torch.where: _masked_where,
    "where": lambda x, condition, other: _masked_where(condition, x, other),
    **dict.fromkeys(
        (torch.masked_fill, "masked_fill"), lambda x, mask, value: _masked_where(mask, value, x)
    ),
    **dict.fromkeys((operator.add, operator.iadd, torch.add, "add", "add_"), _masked_sum),
}
