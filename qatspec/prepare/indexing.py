"""Indices that are constants of the model, along several dims at once: x[..., i, j], item
assignment, gather and scatter.

The dims from the first to the last one that is indexed become one dim of positions. An index is
then a list of positions along that dim. It is computed by torch itself from a tensor of the numbers
0, 1, 2, ... in the shape of those dims, so that it follows buffers that a checkpoint loads.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx

from qatspec.graph.assign import replaced
from qatspec.graph.constants import is_constant

#: Numbers of a matrix that sums by position: larger ones would take most of a model's memory.
_LARGEST_MATRIX = 1 << 22


@dataclass(frozen=True, slots=True)
class _Block:
    """The dims of x from `first` to `last`, as one dim of positions.

    within  the index of these dims.
    shape   of what the index picks of them.
    """

    x: Any
    first: int
    last: int
    within: tuple[Any, ...]
    shape: tuple[int, ...]

    def sizes(self) -> tuple[int, ...]:
        return _shape(self.x)[self.first : self.last + 1]

    def count(self) -> int:
        return math.prod(self.sizes())

    def numbers(self) -> Any:
        """0, 1, 2, ... in the shape of the dims."""
        return self.x.tracer.buffer(torch.arange(self.count()).reshape(self.sizes()))

    def flat(self) -> Any:
        """x with one dim of positions."""
        if self.first == self.last:
            return self.x
        return torch.flatten(self.x, self.first, self.last)

    def folded(self, x: Any) -> Any:
        """A tensor with one dim of positions in the shape of x."""
        if self.first == self.last:
            return x
        behind = _shape(self.x)[self.last + 1 :]
        return x.reshape(*_front(self.x, self.first), *self.sizes(), *behind)

    def at(self, x: Any, positions: Any, shape: Sequence[int]) -> Any:
        """x at positions along the one dim, which becomes dims of `shape`."""
        index = (*[slice(None)] * self.first, torch.flatten(positions))
        flat = x[index]
        front, behind = _front(self.x, self.first), _shape(self.x)[self.last + 1 :]
        return flat.reshape(*front, *shape, *behind)


def pick(x: Any, places: Any) -> Any:
    """x[places] for constant positions along more than one dim."""
    block = _block(x, places)
    if block is None or sum(map(_is_list, block.within)) < 2:
        return NotImplemented
    return block.at(block.flat(), block.numbers()[block.within], block.shape)


def put(x: Any, places: Any, values: Any) -> Any:
    """x with values at constant positions. Places that are named twice have one of their
    values."""
    block = _block(x, places)
    if block is None:
        return NotImplemented
    flat, count = block.flat(), block.count()
    if isinstance(values, (int, float)):
        new = torch.full_like(_along(flat, block.first, slice(0, 1)), values)
        order = replaced_node(block.numbers(), block.within, count)
    else:
        new = _spread(block, values)
        rows = torch.arange(count, count + math.prod(block.shape)).reshape(block.shape)
        order = replaced_node(block.numbers(), block.within, x.tracer.buffer(rows))
    return block.at(torch.cat([flat, new], block.first), order, block.sizes())


def replaced_node(x: Any, places: Any, values: Any) -> Any:
    return x.tracer.create_proxy("call_function", replaced, (x, places, values), {})


def _spread(block: _Block, values: Any) -> Any:
    """Values in the shape of the places, whose dims are one."""
    x, shape = block.x, block.shape
    rank = block.first + len(shape) + len(_shape(x)) - block.last - 1
    if not isinstance(values, fx.Proxy):
        values = x.tracer.buffer(values)
    for _ in range(rank - len(_shape(values))):
        values = torch.unsqueeze(values, 0)
    wanted = (_shape(x)[0], *_shape(x)[1 : block.first], *shape, *_shape(x)[block.last + 1 :])
    if _shape(values) != wanted:
        values = values.expand(x.size(0), *wanted[1:])
    if not shape:
        return torch.unsqueeze(values, block.first)
    if len(shape) == 1:
        return values
    return torch.flatten(values, block.first, block.first + len(shape) - 1)


def _block(x: Any, places: Any) -> _Block | None:
    """The dims that an index is for; None where it names images of the batch, adds a dim or follows
    the input."""
    indices = list(places if isinstance(places, tuple) else (places,))
    is_tensor = isinstance(x, fx.Proxy) and isinstance(_example(x), torch.Tensor)
    if not is_tensor or any(i is None or isinstance(i, bool) for i in indices):
        return None
    rank = len(_shape(x))
    at = next((k for k, i in enumerate(indices) if i is Ellipsis), len(indices))
    indices[at : at + 1] = [slice(None)] * (rank - sum(i is not Ellipsis for i in indices))
    if len(indices) != rank or not _plain(indices):
        return None
    named = [k for k, i in enumerate(indices) if not isinstance(i, slice) or i != slice(None)]
    if not named or named[0] == 0:
        return None
    first, last = named[0], named[-1]
    within = tuple(indices[first : last + 1])
    example = _example(x)
    numbers = torch.zeros(example.shape[first : last + 1], device="meta")
    shape = tuple(numbers[tuple(map(_meta, within))].shape)
    picked = torch.zeros(example.shape, device="meta")[tuple(map(_meta, indices))].shape
    if tuple(picked) != (*example.shape[:first], *shape, *example.shape[last + 1 :]):
        return None  # positions apart from each other: torch puts their dim in front
    return _Block(x, first, last, within, shape)


def _plain(indices: Sequence[Any]) -> bool:
    """Whether each index is a slice or a number, or holds constant positions."""
    for index in indices:
        if isinstance(index, slice):
            if any(isinstance(v, fx.Proxy) for v in (index.start, index.stop, index.step)):
                return False
        elif _is_list(index):
            value = torch.as_tensor(index) if isinstance(index, list) else _example(index)
            if value.is_floating_point() or value.dtype == torch.bool or not is_constant(index):
                return False
        elif not isinstance(index, int):
            return False
    return True


def _is_list(index: Any) -> bool:
    value = _example(index)
    return isinstance(value, (list, torch.Tensor))


def _meta(index: Any) -> Any:
    value = _example(index)
    if isinstance(value, list):
        value = torch.as_tensor(value)
    if isinstance(value, torch.Tensor):
        return torch.zeros(value.shape, dtype=torch.int64, device="meta")
    return value


def add(x: Any, places: Any, values: Any) -> Any:
    """x with the sum of the values that name a constant position added there."""
    block = _block(x, places)
    if block is None or not isinstance(values, fx.Proxy):
        return NotImplemented
    return _sums(block, block.numbers()[block.within], _spread(block, values))


def _sums(block: _Block, positions: Any, values: Any) -> Any:
    """The block's x plus values (the dims in front, positions, the dims behind), summed by
    position: a product with a constant matrix of 0 and 1."""
    count, positions = block.count(), torch.flatten(positions)
    if count * math.prod(_shape(positions)) > _LARGEST_MATRIX:
        return NotImplemented
    numbers = torch.unsqueeze(torch.flatten(block.numbers()), 1)
    matrix = torch.eq(numbers, torch.unsqueeze(positions, 0)).to(torch.float32)
    sums = F.linear(torch.transpose(values, block.first, -1), matrix)
    return block.x + block.folded(torch.transpose(sums, block.first, -1))


# -- ops with an index tensor --------------------------------------------------------------------


def _index_put(x: Any, indices: Any, values: Any, accumulate: bool = False) -> Any:
    return NotImplemented if accumulate else put(x, tuple(indices), values)


def _index_add(x: Any, dim: int, index: Any, source: Any, alpha: float = 1) -> Any:
    return add(x, _at(x, dim, index), source if alpha == 1 else source * alpha)


def _scatter_add(x: Any, dim: int, index: Any, src: Any) -> Any:
    """x plus numbers of `src` at an index for each number, the same in every image. Where all rows
    along `dim` have the same index, only the numbers along it are summed."""
    block, index = _of_each(x, dim, index)
    if block is None or not hasattr(src, "node"):
        return NotImplemented
    shape, dim = _shape(index), dim % len(_shape(x))
    row = _row(index, dim)
    alike = all(n == m for k, (n, m) in enumerate(zip(shape, _shape(x), strict=True)) if k > dim)
    if row is not None and alike and shape[1:dim] == _shape(x)[1:dim]:
        part = src[tuple(slice(0, n) for n in (None, *shape[1:]))]
        return add(x, _at(x, dim, row), part)
    order = torch.gather(torch.unsqueeze(block.numbers(), 0), dim, index)
    part = torch.flatten(src[tuple(slice(0, n) for n in (None, *shape[1:]))], 1)
    return _sums(block, order, part)


def _row(index: Any, dim: int) -> Any:
    """The index along `dim` where it was expanded from one row."""
    row: Any = fx.Proxy(index.node.args[0], index.tracer)
    sizes = _shape(row)
    return torch.flatten(row) if math.prod(sizes) == sizes[dim] else None


def _index_copy(x: Any, dim: int, index: Any, source: Any) -> Any:
    return put(x, _at(x, dim, index), source)


def _index_fill(x: Any, dim: int, index: Any, value: Any) -> Any:
    return put(x, _at(x, dim, index), value)


def _at(x: Any, dim: int, index: Any) -> tuple[Any, ...]:
    return (*[slice(None)] * (dim % len(_shape(x))), index)


def _gather(x: Any, dim: int, index: Any, sparse_grad: bool = False) -> Any:
    """x at an index for each number, the same in every image."""
    block, index = _of_each(x, dim, index)
    if block is None:
        return NotImplemented
    order = torch.gather(torch.unsqueeze(block.numbers(), 0), dim % len(_shape(x)), index)
    return block.at(block.flat(), order, _shape(index)[1:])


def _take_along_dim(x: Any, index: Any, dim: Any = None) -> Any:
    if dim is None or not is_constant(index) or not isinstance(x, fx.Proxy):
        return NotImplemented
    sizes = list(_shape(x))
    sizes[dim] = _shape(index)[dim]
    return _gather(x, dim, index.expand(1, *sizes[1:]) if _shape(index)[0] == 1 else index)


def _scatter(x: Any, dim: int, index: Any, src: Any = None, **rest: Any) -> Any:
    """x with numbers of `src` at an index for each number, the same in every image."""
    src = rest.pop("value", src)
    block, index = _of_each(x, dim, index)
    if block is None or rest or src is None:
        return NotImplemented
    numbers, count, shape = torch.unsqueeze(block.numbers(), 0), block.count(), _shape(index)[1:]
    dim = dim % len(_shape(x))
    if isinstance(src, (int, float)):
        new = torch.full_like(_along(block.flat(), 1, slice(0, 1)), src)
        order = torch.scatter(numbers, dim, index, count)
    else:
        rows = torch.arange(count, count + math.prod(shape)).reshape(1, *shape)
        new = torch.flatten(src[tuple(slice(0, n) for n in (None, *shape))], 1)
        order = torch.scatter(numbers, dim, index, x.tracer.buffer(rows))
    return block.at(torch.cat([block.flat(), new], 1), order, block.sizes())


def _of_each(x: Any, dim: int, index: Any) -> tuple[_Block | None, Any]:
    """(all dims but the batch as one; the index of one image). (None, _) where the index follows
    the input or differs from image to image."""
    rank = len(_shape(x)) if isinstance(x, fx.Proxy) else 0
    if rank < 2 or dim % rank == 0 or not isinstance(index, fx.Proxy):
        return None, index
    sizes = _shape(index)
    node: Any = index.node
    while node.target in ("expand", "repeat", "expand_as") and _example(node.args[0]).ndim == rank:
        node = node.args[0]
    if not is_constant(node) or _example(node).shape[0] != 1:
        return None, index
    index = fx.Proxy(node, x.tracer).expand(1, *sizes[1:])
    if any(n not in (1, m) for n, m in zip(_example(node).shape[1:], sizes[1:], strict=True)):
        return None, index
    return _Block(x, 1, rank - 1, (), ()), index


# -- examples ------------------------------------------------------------------------------------


def _along(x: Any, dim: int, part: Any) -> Any:
    index = (*[slice(None)] * dim, part)
    return x[index]


def _front(x: Any, stop: int) -> list[Any]:
    """The first sizes of a tensor, the batch as the model itself reads it."""
    return [x.size(0), *_shape(x)[1:stop]]


def _example(value: Any) -> Any:
    if isinstance(value, fx.Proxy):
        value = value.node
    return value.meta["example"] if isinstance(value, fx.Node) else value


def _shape(x: Any) -> tuple[int, ...]:
    return tuple(_example(x).shape)


DEFINITIONS: Mapping[Any, Callable[..., Any]] = {
    operator.getitem: pick,
    **dict.fromkeys((torch.index_put, "index_put", "index_put_"), _index_put),
    **dict.fromkeys((torch.index_copy, "index_copy", "index_copy_"), _index_copy),
    **dict.fromkeys((torch.index_fill, "index_fill", "index_fill_"), _index_fill),
    **dict.fromkeys((torch.gather, "gather"), _gather),
    **dict.fromkeys((torch.take_along_dim, "take_along_dim"), _take_along_dim),
    **dict.fromkeys((torch.scatter, "scatter", "scatter_"), _scatter),
    **dict.fromkeys((torch.index_add, "index_add", "index_add_"), _index_add),
    **dict.fromkeys((torch.scatter_add, "scatter_add", "scatter_add_"), _scatter_add),
}
