"""Item assignment at fixed places, as parts of tensors that are concatenated."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import fx

from qatspec.prepare import indexing
from qatspec.prepare.appending import example_number


def assigned(x: Any, places: Any, values: Any) -> Any:
    """x with `values` at `places`: for each dim a slice, a number or, for one dim, a list of
    positions; or a tensor of booleans.

    x, values: proxies; values may be a number. Gives NotImplemented for other places, such as some
    images of the batch."""
    if _is_mask(places):
        if not isinstance(values, (int, float)):
            return NotImplemented
        for _ in range(len(_shape(x)) - len(_shape(places))):  # a mask is for the first dims
            places = torch.unsqueeze(places, -1)
        return torch.masked_fill(x, places, values)
    index = _index(places if isinstance(places, tuple) else (places,), x)
    if index is None:
        return indexing.put(x, places, values)
    if _rows(x, index)[0] != list(range(_shape(x)[0])):
        return NotImplemented
    if isinstance(values, (fx.Proxy, torch.Tensor)):
        values = _spread(x, index, values)
    return _placed(x, _rows(x, index), values)


def _index(places: Sequence[Any], x: Any) -> list[Any] | None:
    """An index for each dim of x; None where the places are something else."""
    shape = _shape(x)
    indices = [_example_index(part, x) for part in places]
    if not all(p is Ellipsis or isinstance(p, (int, slice, list)) for p in indices):
        return None
    lists = [p for p in indices if isinstance(p, list)]
    if len(lists) > 1 or (lists and any(isinstance(p, int) for p in indices)):  # of pairs
        return None
    missing = len(shape) - sum(p is not Ellipsis for p in indices)
    at = indices.index(Ellipsis) if Ellipsis in indices else len(indices)
    indices[at : at + 1] = [slice(None)] * missing
    ends = [v for p in indices if isinstance(p, slice) for v in (p.start, p.stop, p.step)]
    if any(isinstance(v, fx.Proxy) for v in ends) or any(isinstance(p, bool) for p in indices):
        return None
    rows = [_positions(p, n) for p, n in zip(indices, shape, strict=True)]
    return indices if all(r and len(set(r)) == len(r) for r in rows) else None


def _example_index(index: Any, x: Any) -> Any:
    """The index with numbers of sizes as those of the example: `x[:, : x.shape[1] // 4]`."""
    if isinstance(index, slice):
        return slice(*(_example_index(v, x) for v in (index.start, index.stop, index.step)))
    if isinstance(index, fx.Node):  # in a slice
        index = fx.Proxy(index, x.tracer)
    return example_number(index)


def _positions(index: int | slice | list[int], size: int) -> list[int]:
    every = range(size)
    if isinstance(index, list):
        return [every[i] for i in index]
    return list(every[index]) if isinstance(index, slice) else [every[index]]


def _rows(x: Any, index: list[Any]) -> list[list[int]]:
    """The positions along each dim of x."""
    return [_positions(part, size) for part, size in zip(index, _shape(x), strict=True)]


def _spread(x: Any, index: list[Any], values: Any) -> Any:
    """The values as a tensor of the shape of the places, with all dims of x."""
    numbers = [dim for dim, part in enumerate(index) if isinstance(part, int)]
    for _ in range(len(index) - len(numbers) - len(_shape(values))):
        values = torch.unsqueeze(values, 0)
    for dim in numbers:
        values = torch.unsqueeze(values, dim)
    sizes = [len(positions) for positions in _rows(x, index)]
    if tuple(sizes) == _shape(values):
        return values
    return values.expand(x.size(0), *sizes[1:])


def _placed(x: Any, rows: list[list[int]], values: Any) -> Any:
    """x with the values in the given rows of each dim."""
    for dim, positions in enumerate(rows):
        size = _shape(x)[dim]
        if positions == list(range(size)):
            continue
        start, stop = positions[0], positions[-1] + 1
        if positions == list(range(start, stop)):
            inner = _placed(_along(x, dim, slice(start, stop)), _inside(rows, dim), values)
            parts = [inner]
            if start:
                parts.insert(0, _along(x, dim, slice(0, start)))
            if stop < size:
                parts.append(_along(x, dim, slice(stop, size)))
            return torch.cat(parts, dim)
        inner = _placed(_along(x, dim, positions), _inside(rows, dim), values)
        order = list(range(size))
        for i, position in enumerate(positions):
            order[position] = size + i
        return _along(torch.cat([x, inner], dim), dim, order)
    return values if isinstance(values, fx.Proxy) else torch.full_like(x, values)


def _inside(rows: list[list[int]], dim: int) -> list[list[int]]:
    """The rows of a part that holds those of `dim` alone."""
    return [list(range(len(r))) if i == dim else r for i, r in enumerate(rows)]


def _along(x: Any, dim: int, places: Any) -> Any:
    index = (*[slice(None)] * dim, places)
    return x[index]


def _is_mask(places: Any) -> bool:
    value = _example(places)
    return isinstance(value, torch.Tensor) and value.dtype == torch.bool


def _example(value: Any) -> Any:
    return value.node.meta["example"] if isinstance(value, fx.Proxy) else value


def _shape(x: Any) -> tuple[int, ...]:
    return tuple(_example(x).shape)
