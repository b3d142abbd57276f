"""The arguments of the op."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class FloorDivide:
    """other: a tensor or a number."""

    x: Any
    other: Any
