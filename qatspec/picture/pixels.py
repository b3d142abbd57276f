"""Pictures as bytes, and the numbers that a model takes for them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Pixels:
    """A picture of the model's size whose pixels are not normalised yet.

    values  uint8 (C, H, W): the channels in the order in which the model takes them.
    mean    one number, or one for each channel: 0 to 255.
    std     as `mean`; image = (values - mean) / std, computed in float32.
    """

    values: np.ndarray
    mean: float | tuple[float, ...]
    std: float | tuple[float, ...]

    def normalized(self) -> np.ndarray:
        """Compute (values - mean) / std. Returns float32 (C, H, W), contiguous."""
        planes: np.ndarray = self.values.astype(np.float32, order="C")
        for level, apply in zip(self.levels(), (np.subtract, np.divide), strict=True):
            apply(planes, level, out=planes)
        return planes

    def levels(self) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and std as float32 (1, 1, 1), or (C, 1, 1) where each channel has its own."""
        mean, std = (np.asarray(v, np.float32).reshape(-1, 1, 1) for v in (self.mean, self.std))
        return mean, std
