"""The arguments of the ops."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Softmax:
    x: Any
    dim: int | None = None

    def axis(self, rank: int) -> int:
        """The dim; where none is named torch's own choice, which it deprecates."""
        default = 0 if rank in (0, 1, 3) else 1
        return int(default if self.dim is None else self.dim)
