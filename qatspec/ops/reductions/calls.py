"""The arguments of the ops."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Reduce:
    """dim: one, several, None for all; for torch.max possibly a node: the second of two tensors."""

    x: Any
    dim: Any = None
    keepdim: bool = False

    def axes(self, rank: int) -> tuple[int, ...]:
        """The dims of a tensor of `rank` dims, from 0, in the order given."""
        if self.dim in (None, (), []):
            return tuple(range(rank))
        named = self.dim if isinstance(self.dim, (tuple, list)) else (self.dim,)
        return tuple(int(d) % rank for d in named)


@dataclass(frozen=True, slots=True)
class VectorNorm:
    """ord: 2 for the Euclidean length."""

    x: Any
    ord: Any = 2
    dim: Any = None
    keepdim: bool = False

    @property
    def reduce(self) -> Reduce:
        """Which dims it reduces."""
        return Reduce(self.x, self.dim, self.keepdim)
