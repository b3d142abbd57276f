"""Pictures of a batch that travel as bytes and become numbers on the model's device."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from qatspec.picture import Pixels


@dataclass(frozen=True, slots=True)
class ByteImages:
    """Pictures of one batch before they are normalised.

    values  uint8 (N, C, H, W).
    mean    float32 (1, 1, 1) or (C, 1, 1).
    std     as `mean`.
    """

    values: Tensor
    mean: Tensor
    std: Tensor

    @staticmethod
    def of(column: Sequence[Pixels]) -> ByteImages | None:
        """Make one record of the pictures of a batch, which have one shape. None where they are
        not normalised alike."""
        if any((one.mean, one.std) != (column[0].mean, column[0].std) for one in column):
            return None
        values = np.stack([one.values for one in column])
        return ByteImages(*map(torch.from_numpy, (values, *column[0].levels())))

    def mapped(self, change: Callable[[Tensor], Tensor]) -> ByteImages:
        """Return the record with `change` applied to each of its tensors."""
        return ByteImages(change(self.values), change(self.mean), change(self.std))

    def normalized(self) -> Tensor:
        """Compute (values - mean) / std where the tensors lie. Returns float32 (N, C, H, W).

        These are the numbers of `Pixels.normalized`, bit by bit: the same differences and quotients
        in float32. `std` is a tensor of the same device: for a Python number, CUDA multiplies by
        the reciprocal instead."""
        return self.values.to(torch.float32).sub_(self.mean).div_(self.std)
