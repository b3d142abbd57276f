"""The arguments of the ops."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class LeakyRelu:
    x: Any
    negative_slope: float = 0.01


@dataclass(frozen=True, slots=True)
class Softplus:
    x: Any
    beta: float = 1.0


@dataclass(frozen=True, slots=True)
class Elu:
    x: Any
    alpha: float = 1.0


@dataclass(frozen=True, slots=True)
class Gelu:
    x: Any
    approximate: str = "none"


@dataclass(frozen=True, slots=True)
class Pow:
    """exponent: a number, or a node that gives a tensor."""

    x: Any
    exponent: Any


@dataclass(frozen=True, slots=True)
class Prelu:
    """weight: (1,) or (C,)."""

    x: Any
    weight: Any
