"""The arguments of the ops."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Binary:
    """x and other: a tensor or a number. alpha: a factor of `other`."""

    x: Any
    other: Any
    alpha: float = 1
    rounding_mode: str | None = None
