"""The arguments of the op."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class RunningSum:
    """dim: along which it sums, counted from either end."""

    x: Any
    dim: int

    def axis(self, rank: int) -> int:
        """The dim of a tensor of `rank` dims, from 0."""
        return self.dim % rank
