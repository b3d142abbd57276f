"""The arguments of the ops."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Join:
    """tensors: a list of nodes, or a node that gives a list."""

    tensors: Any
    dim: int = 0
