"""Tensors of the model during lowering: scaled integers, and sums that are not rounded yet."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np


@dataclass(frozen=True, slots=True)
class ScaledInts:
    """A value of the Program that represents the real tensor value * scale.

    scale: float64 (1,), or (C,) along `axis`, a dim of the model's tensor (batch counted)."""

    value: str
    scale: np.ndarray
    axis: int | None = None

    @property
    def step(self) -> float:
        """The scale of a tensor that has one alone."""
        return float(self.scale[0])

    def scaled(self, factor: float) -> ScaledInts:
        """Return the same integers, standing for `factor` times the tensor."""
        return replace(self, scale=self.scale * factor)


@dataclass(frozen=True, slots=True)
class PendingSum:
    """clamp(sum of terms, low, high): a real tensor that no requantization has rounded yet.

    low, high  real numbers, None: no bound.

    One term of small integers without bounds is a quantized tensor; one int32 term without bounds
    can be an int32 output; the fake-quant behind it turns a sum into a single `requant` op.
    """

    terms: tuple[ScaledInts, ...]
    low: float = -np.inf
    high: float = np.inf

    @property
    def bounded(self) -> bool:
        """Whether a clamp limits the sum."""
        return self.low > -np.inf or self.high < np.inf

    def clamped(self, low: float, high: float) -> PendingSum:
        """Return min(max(this, low), high). low, high: real numbers."""
        least = min(max(self.low, low), high)
        return replace(self, low=least, high=min(max(self.high, low), high))

    def scaled(self, factor: float) -> PendingSum:
        """Return this times a constant `factor`, which is not zero."""
        low, high = sorted((self.low * factor, self.high * factor))
        return PendingSum(tuple(term.scaled(factor) for term in self.terms), low, high)


def pending(x: ScaledInts | PendingSum) -> PendingSum:
    """Either form as a sum."""
    return PendingSum((x,)) if isinstance(x, ScaledInts) else x
