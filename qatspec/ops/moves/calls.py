"""The arguments of the ops."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor, fx

from qatspec.graph.context import REST, GraphContext


@dataclass(frozen=True, slots=True)
class Squeeze:
    """dim: one, several, or None for every dim of size 1."""

    x: Any
    dim: Any = None

    def dims(self, shape: tuple[int, ...]) -> list[int]:
        """The dims that go, of a tensor of `shape`."""
        named = self.dim if isinstance(self.dim, (tuple, list)) else (self.dim,)
        every = range(len(shape)) if self.dim is None else named
        return [d % len(shape) for d in every if shape[d] == 1]


@dataclass(frozen=True, slots=True)
class Unsqueeze:
    x: Any
    dim: int = 0


@dataclass(frozen=True, slots=True)
class Permute:
    x: Any
    dims: Any = field(default=(), metadata=REST)


@dataclass(frozen=True, slots=True)
class Transpose:
    x: Any
    dim0: int = 0
    dim1: int = 1


def permutation(node: fx.Node, context: GraphContext) -> tuple[int, ...]:
    """Of a permute or transpose: the operand's dim at each dim of the result."""
    rank = len(context.shape(node))
    if context.op(node) == "permute":
        dims = context.call(node, Permute).dims
        return tuple(int(d) % rank for d in (dims if isinstance(dims, (tuple, list)) else (dims,)))
    call = context.call(node, Transpose)
    perm = list(range(rank))
    a, b = int(call.dim0) % rank, int(call.dim1) % rank
    perm[a], perm[b] = b, a
    return tuple(perm)


@dataclass(frozen=True, slots=True)
class GetItem:
    """index: of a list of tensors a number; of a tensor one index or several."""

    x: Any
    index: Any

    def indices(self, rank: int) -> list[Any]:
        """One index a dim of a tensor of `rank` dims, and None for each new dim; dims that are not
        named are left out at the end. A list of numbers is an index: those positions in turn."""
        indices = list(self.index) if isinstance(self.index, tuple) else [self.index]
        at = next((i for i, index in enumerate(indices) if index is Ellipsis), None)
        if at is not None:
            left_out = rank - sum(i is not None for i in indices) + 1
            indices[at : at + 1] = [slice(None)] * left_out
        return indices


def positions(index: Any, size: int, context: GraphContext) -> np.ndarray | None:
    """Where a list or constant tensor picks along a dim of `size`: from 0, of any shape; None where
    it is no such index."""
    if isinstance(index, fx.Node) and context.is_constant(index):
        index = context.constant(index)
    if not isinstance(index, (Tensor, list)):
        return None
    numbers = np.asarray(index.detach().cpu() if isinstance(index, Tensor) else index)
    if numbers.dtype == bool and numbers.shape == (size,):
        return np.flatnonzero(numbers)
    if not np.issubdtype(numbers.dtype, np.integer) or numbers.size == 0:
        return None
    return np.where(numbers < 0, numbers + size, numbers)


@dataclass(frozen=True, slots=True)
class Split:
    """sizes: how many parts a chunk has, or the sizes of the parts."""

    x: Any
    sizes: Any = None
    dim: int = 0


@dataclass(frozen=True, slots=True)
class Unbind:
    x: Any
    dim: int = 0


def split_dim(node: fx.Node, context: GraphContext) -> int:
    """The dim that a chunk, split or unbind divides."""
    kind: type[Split | Unbind] = Unbind if context.op(node) == "unbind" else Split
    call = context.call(node, kind)
    return int(call.dim) % len(context.shape(call.x))
