"""What a node of the model is on its way to integers: a real tensor written with integer values."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np


@dataclass(frozen=True, slots=True)
class Term:
    """value * scale. scale: float64 (1,), or (C,) along `axis` (counted with the batch)."""

    value: str
    scale: np.ndarray
    axis: int | None = None

    @property
    def step(self) -> float:
        """The scale of a per-tensor term."""
        return float(self.scale[0])


@dataclass(frozen=True, slots=True)
class Sum:
    """clamp(sum of terms, low, high): real numbers that no requantization has closed yet.

    One term of small integers without bounds is a quantized tensor; one int32 term without bounds
    can be a tail; the fake-quant behind a Sum turns it into a single `requant` op.
    """

    terms: tuple[Term, ...]
    low: float = -np.inf
    high: float = np.inf

    @property
    def bounded(self) -> bool:
        return self.low > -np.inf or self.high < np.inf

    def clamped(self, low: float, high: float) -> Sum:
        """min(max(this, low), high)."""
        least = min(max(self.low, low), high)
        return replace(self, low=least, high=min(max(self.high, low), high))

    def scaled(self, factor: float) -> Sum:
        """This times a nonzero constant."""
        terms = tuple(replace(t, scale=t.scale * factor) for t in self.terms)
        low, high = sorted((self.low * factor, self.high * factor))
        return Sum(terms, low, high)
