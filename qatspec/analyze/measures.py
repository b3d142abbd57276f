"""Distances of two tensors: noise against a signal, and integer steps. Both add up over
batches, so that any number of images takes the memory of one batch."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

#: distances that are counted by themselves; farther ones are counted together
_NEAR = 3


@dataclass(slots=True)
class Noise:
    """Power of a signal and of what differs from it."""

    signal: float = 0.0
    noise: float = 0.0

    def add(self, signal: Tensor, other: Tensor) -> None:
        """Count two tensors of one shape. Whole numbers (places, labels) are right or wrong: their
        signal is their number, their noise how many differ."""
        if not signal.is_floating_point():
            self.signal += signal.numel()
            self.noise += int((signal != other).sum())
            return
        exact = signal.double()
        self.signal += float(exact.square().sum())
        self.noise += float((exact - other).square().sum())

    @property
    def db(self) -> float:
        """Signal to quantization noise ratio, 10 log10(sum x^2 / sum e^2); infinite without noise,
        minus infinity where noise stands on a signal of nothing."""
        if self.noise == 0:
            return math.inf
        return 10 * math.log10(self.signal / self.noise) if self.signal else -math.inf


@dataclass(slots=True)
class Steps:
    """Distances of integers, in steps (LSB). near: how many lie 0, 1 and 2 steps apart."""

    near: list[int] = field(default_factory=lambda: [0] * _NEAR)
    count: int = 0
    largest: int = 0

    def add(self, mine: Tensor, theirs: Tensor) -> None:
        """Count two tensors of integers, whatever their dtypes."""
        distance = (mine.double() - theirs.double()).abs()
        for step in range(_NEAR):
            self.near[step] += int((distance == step).sum())
        self.count += distance.numel()
        self.largest = max(self.largest, int(distance.max()) if distance.numel() else 0)

    @property
    def shares(self) -> tuple[float, float, float, float]:
        """Shares of 0, 1, 2 and more steps, adding up to 1."""
        near = [n / max(self.count, 1) for n in self.near]
        far = (self.count - sum(self.near)) / max(self.count, 1)
        return near[0], near[1], near[2], far


def sqnr(signal: np.ndarray, other: np.ndarray) -> float:
    """Signal to noise ratio of `other` in dB."""
    noise = Noise()
    noise.add(torch.from_numpy(signal), torch.from_numpy(other))
    return noise.db
