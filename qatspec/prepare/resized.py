"""Composite ops whose parts hold for one size of picture: they check the size of each input."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

from qatspec.graph.constants import evaluate, result as computed
from qatspec.graph.sizes import fixed
from qatspec.prepare.appending import is_table

#: Dims of a picture, and the sizes that are tried, the first that both differ from the example's:
#: small ones, since real numbers are computed.
_HEIGHT, _WIDTH = 2, 3
_SIZES = ((6, 10), (12, 16), (5, 7))
_RANK = 4


def check_sizes(root: nn.Module, node: fx.Node, result: Any, made: Sequence[fx.Node]) -> None:
    """Insert checks of the operands' height and width (`fixed`) where the parts of a composite op
    give something else, or fail, for pictures of another size and the op itself does not.

    root    the module of the graph.
    node    a call of the op, still in the graph.
    result  the proxy, or the tuple of proxies, of what takes its place.
    made    the nodes of the parts, which stand before `node`.
    """
    read = [n for n in node.all_input_nodes if not is_table(n)]
    if not made or any(not _is_picture(n) for n in read):
        return
    sizes = {tuple(n.meta["example"].shape[_HEIGHT:]) for n in read}
    heights, widths = ({size[i] for size in sizes} for i in (0, 1))
    larger = next(((h, w) for h, w in _SIZES if h not in heights and w not in widths), None)
    if larger is None or len(sizes) > 1:
        return
    known = {n: _numbers(n.meta["example"], larger) for n in read}
    with torch.no_grad():
        try:
            expected = _leaves(_run(root, node, known))
        except Exception:  # noqa: BLE001 - the op itself holds for its size alone
            return
        parts = pytree.tree_map_only(fx.Proxy, lambda p: p.node, result)
        try:
            for part in made:
                known[part] = _run(root, part, known)
            follows = _equal([known.get(n) for n in pytree.tree_leaves(parts)], expected)
        except Exception:  # noqa: BLE001 - whatever torch raises for another size
            follows = False
    if not follows:
        for operand in dict.fromkeys(read):
            _fix(operand, made[0], str(node.meta.get("source", "")))


def _is_picture(node: fx.Node) -> bool:
    example = node.meta.get("example")
    return isinstance(example, Tensor) and example.ndim == _RANK


def _numbers(x: Tensor, size: tuple[int, int]) -> Tensor:
    shape = (*x.shape[:_HEIGHT], *size)
    numbers = torch.arange(prod(shape), device=x.device, dtype=torch.float32)
    return torch.sin(numbers).reshape(shape).to(x.dtype)


def _run(root: nn.Module, node: fx.Node, known: dict[fx.Node, Any]) -> Any:
    def value(operand: fx.Node) -> Any:
        if operand not in known:  # a constant, or a number of the example's size
            known[operand] = evaluate(root, operand)
        return known[operand]

    return computed(root, node, value)


def _leaves(value: Any) -> list[Any]:
    return [leaf for leaf in pytree.tree_leaves(value) if isinstance(leaf, Tensor)]


def _equal(results: Sequence[Any], expected: Sequence[Tensor]) -> bool:
    return len(results) == len(expected) and all(
        isinstance(a, Tensor)
        and a.shape == b.shape
        and torch.allclose(a.double(), b.double(), rtol=1e-3, atol=1e-4, equal_nan=True)
        for a, b in zip(results, expected, strict=True)
    )


def _fix(operand: fx.Node, before: fx.Node, source: str) -> None:
    for dim in (_HEIGHT, _WIDTH):
        traced = int(operand.meta["example"].shape[dim])
        with operand.graph.inserting_before(before):
            size = operand.graph.call_method("size", (operand, dim))
            check = operand.graph.call_function(fixed, (size, traced, source))
        size.meta = {**operand.meta, "example": traced}
        check.meta = {**operand.meta, "example": None}
