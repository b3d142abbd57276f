"""Helpers for every family's `example.py`. Examples do not use how an op is lowered.

Weights are -a, 0 and a, which 8 bits represent up to half a step in 127.5. References compute in
float64.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from qatspec.types import Example

Reals = NDArray[np.float64]
Reference = Callable[[Reals], Any]

#: Parameters of the examples, one a channel.
SLOPE, SHIFT = np.array([0.5, -1.0, 2.0, 1.5]), np.array([0.25, 0.0, -1.0, 0.5])


class Function(nn.Module):
    """A function of one tensor as a module."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def function(
    op: str, compute: Callable[[Tensor], Tensor], reference: Reference | None = None
) -> Example:
    """Make the example of an op that a function of one tensor (2, 4, 8, 8) computes."""
    return Example(op=op, build=lambda: Function(compute), reference=reference)


def module(
    op: str,
    build: Callable[[], nn.Module],
    reference: Reference | None = None,
    shape: tuple[int, ...] = (2, 4, 8, 8),
) -> Example:
    """Make the example of an op that a module of one tensor computes."""
    return Example(op=op, build=build, reference=reference, shape=shape)


def with_parameters(layer: nn.Module, **values: Reals) -> nn.Module:
    """Return the layer with these parameters and buffers."""
    state = {name: torch.tensor(value) for name, value in values.items()}
    layer.load_state_dict(state, strict=False)
    return layer


def per_channel(values: Reals) -> Reals:
    """Reshape (C,) to (C, 1, 1)."""
    return values[:, None, None]
