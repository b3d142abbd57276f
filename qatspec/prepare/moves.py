"""Functions that move numbers, written by the ops that quant handlers know: axes in another order,
parts, joins."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import fx

from qatspec.graph.constants import is_constant
from qatspec.prepare.assigning import assigned
from qatspec.prepare.parts import flip, listed


def _rank(x: Any) -> int:
    example = x.node.meta["example"] if isinstance(x, fx.Proxy) else x
    return int(example.ndim)


def _size(x: Any, dim: int) -> int:
    example = x.node.meta["example"] if isinstance(x, fx.Proxy) else x
    return int(example.shape[dim])


def _part(x: Any, dim: int, part: Any) -> Any:
    index = (*[slice(None)] * (dim % _rank(x)), part)
    return x[index]


def _movedim(x: Any, source: Any, destination: Any) -> Any:
    pairs = [
        [d % _rank(x) for d in ((dims,) if isinstance(dims, int) else dims)]
        for dims in (source, destination)
    ]
    left = iter([d for d in range(_rank(x)) if d not in pairs[0]])
    moved = dict(zip(pairs[1], pairs[0], strict=True))
    return torch.permute(x, [moved[d] if d in moved else next(left) for d in range(_rank(x))])


def _swapped(x: Any, first: int, second: int) -> Any:
    return torch.transpose(x, first, second)


def _adjoint(x: Any) -> Any:
    return torch.transpose(x, -2, -1)


def _rot90(x: Any, k: int = 1, dims: Sequence[int] = (0, 1)) -> Any:
    """A quarter turn k times, from the first of two dims to the second."""
    first, second = dims
    if k % 4 == 2:
        return flip(x, first, second)
    if k % 4 == 0:
        return x * 1
    turned = torch.transpose(x, first, second)
    return flip(turned, first if k % 4 == 1 else second)


def _fliplr(x: Any) -> Any:
    return flip(x, 1)


def _select(x: Any, dim: int, index: int) -> Any:
    return _part(x, dim, index) if isinstance(index, int) else NotImplemented


def _tensor_split(x: Any, sections: Any, dim: int = 0) -> Any:
    """Parts as equal as can be, or parts that begin at the given places."""
    size = _size(x, dim)
    if isinstance(sections, int):
        small, more = divmod(size, sections)
        stops = [small * (i + 1) + min(i + 1, more) for i in range(sections)]
    elif isinstance(sections, (tuple, list)):
        stops = [*sections, size]
    else:
        return NotImplemented
    starts = [0, *stops[:-1]]
    return tuple(_part(x, dim, slice(a, b)) for a, b in zip(starts, stops, strict=True))


def _hsplit(x: Any, sections: Any) -> Any:
    return _tensor_split(x, sections, 1) if _rank(x) > 1 else NotImplemented


def _dsplit(x: Any, sections: Any) -> Any:
    return _tensor_split(x, sections, 2)


def _hstack(tensors: Any) -> Any:
    return torch.cat(tensors, 1) if _rank(tensors[0]) > 1 else NotImplemented


def _dstack(tensors: Any) -> Any:
    return torch.cat(tensors, 2) if _rank(tensors[0]) > 2 else NotImplemented


def _broadcast_to(x: Any, *size: Any) -> Any:
    return x.expand(*size)


def _expand_as(x: Any, other: Any) -> Any:
    """A constant in the shape of another tensor, of which it takes the sizes alone."""
    return x.expand(other.size()) if is_constant(x) else NotImplemented


def _meshgrid(*tensors: Any, indexing: Any = "ij") -> Any:
    """Each tensor of numbers along a dim of its own, repeated along the others. What is made from
    sizes alone stays a constant."""
    axes = listed(tensors)
    several = all(_rank(x) == 1 for x in axes) and not all(map(is_constant, axes))
    if not several or not any(_is_float(x) for x in axes):
        return NotImplemented
    sizes, order = [x.size(0) for x in axes], list(range(len(axes)))
    if indexing == "xy":
        sizes[:2], order[:2] = sizes[1::-1], order[1::-1]
    shapes = ([-1 if i == k else 1 for i in range(len(axes))] for k in order)
    return tuple(x.reshape(*shape).expand(*sizes) for x, shape in zip(axes, shapes, strict=True))


def _is_float(x: Any) -> bool:
    example = x.node.meta["example"] if isinstance(x, fx.Proxy) else x
    return bool(example.is_floating_point())


def _unflatten(x: Any, dim: int, sizes: Any) -> Any:
    return x.unflatten(dim, sizes)


def _softmin(x: Any, dim: Any = None, _stacklevel: int = 3, dtype: Any = None) -> Any:
    return NotImplemented if dim is None or dtype else torch.softmax(-x, dim)


def _diff(x: Any, n: int = 1, dim: int = -1) -> Any:
    """Each number less the one before it, n times."""
    for _ in range(n):
        x = _part(x, dim, slice(1, None)) - _part(x, dim, slice(0, _size(x, dim) - 1))
    return x


def _slice_scatter(
    x: Any, values: Any, dim: int = 0, start: Any = None, end: Any = None, step: int = 1
) -> Any:
    index = (*[slice(None)] * (dim % _rank(x)), slice(start, end, step))
    return assigned(x, index, values)


def _select_scatter(x: Any, values: Any, dim: int, index: int) -> Any:
    return assigned(x, (*[slice(None)] * (dim % _rank(x)), index), values)


#: What torch.meshgrid calls, which is recorded where its tensors are in a list.
_MESHGRID = torch._VF.meshgrid  # type: ignore[attr-defined]

DEFINITIONS: Mapping[Any, Callable[..., Any]] = {
    **dict.fromkeys((torch.movedim, torch.moveaxis, "movedim", "moveaxis"), _movedim),
    **dict.fromkeys((torch.swapaxes, torch.swapdims, "swapaxes", "swapdims"), _swapped),
    **dict.fromkeys((torch.adjoint, "adjoint"), _adjoint),
    **dict.fromkeys((torch.rot90, "rot90"), _rot90),
    **dict.fromkeys((torch.fliplr, "fliplr"), _fliplr),
    **dict.fromkeys((torch.select, "select"), _select),
    **dict.fromkeys((torch.tensor_split, "tensor_split"), _tensor_split),
    **dict.fromkeys((torch.hsplit, "hsplit"), _hsplit),
    **dict.fromkeys((torch.dsplit, "dsplit"), _dsplit),
    **dict.fromkeys((torch.hstack, torch.column_stack), _hstack),
    torch.dstack: _dstack,
    **dict.fromkeys((torch.broadcast_to, "broadcast_to"), _broadcast_to),
    "expand_as": _expand_as,
    **dict.fromkeys((torch.meshgrid, _MESHGRID), _meshgrid),
    torch.unflatten: _unflatten,
    torch.nn.functional.softmin: _softmin,
    **dict.fromkeys((torch.diff, "diff"), _diff),
    **dict.fromkeys((torch.slice_scatter, "slice_scatter"), _slice_scatter),
    **dict.fromkeys((torch.select_scatter, "select_scatter"), _select_scatter),
}
