"""Examples of the ops, and two of their functions in float64."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from qatspec.ops.examples import SHIFT, Reals, module, per_channel, with_parameters
from qatspec.types import Example

#: (out, in) weight of the examples: differences of neighbouring channels.
_WEIGHT = np.eye(4) - np.roll(np.eye(4), 1, 1)


def _conv() -> nn.Module:
    """A 1x1 convolution."""
    return with_parameters(nn.Conv2d(4, 4, 1), weight=_WEIGHT[..., None, None], bias=SHIFT)


def _conv_reference(x: Reals) -> Reals:
    """(N, 4, 8, 8) -> (N, 4, 8, 8)."""
    mixed = np.einsum("oi,nihw->nohw", _WEIGHT, x)
    return np.asarray(mixed + per_channel(SHIFT))


def _linear() -> nn.Module:
    """Differences of neighbours along the last dim."""
    weight, bias = np.eye(8) - np.roll(np.eye(8), 1, 1), np.tile(SHIFT, 2)
    return with_parameters(nn.Linear(8, 8), weight=weight, bias=bias)


def _linear_reference(x: Reals) -> Reals:
    return np.asarray(x - np.roll(x, -1, -1) + np.tile(SHIFT, 2))


def _seeded(layer: nn.Module) -> nn.Module:
    """The layer with the same parameters in every process."""
    for i, parameter in enumerate(layer.parameters()):
        wave = torch.arange(parameter.numel()).add(i).sin() * 0.3
        nn.init.zeros_(parameter).data += wave.reshape(parameter.shape)
    return layer


def examples() -> tuple[Example, ...]:
    line, cube = (2, 4, 9), (2, 4, 5, 4, 6)
    return (
        module("conv2d", _conv, _conv_reference),
        module("conv1d", lambda: _seeded(nn.Conv1d(4, 4, 3, 2, 1, groups=2)), shape=line),
        module("conv3d", lambda: _seeded(nn.Conv3d(4, 2, 3, (2, 1, 2), 1)), shape=cube),
        module("conv_transpose1d", lambda: _seeded(nn.ConvTranspose1d(4, 4, 3, 2, 1)), shape=line),
        module(
            "conv_transpose2d", lambda: _seeded(nn.ConvTranspose2d(4, 4, 3, padding=1, groups=2))
        ),
        module("conv_transpose3d", lambda: _seeded(nn.ConvTranspose3d(4, 2, 2, 2)), shape=cube),
        module("linear", _linear, _linear_reference),
    )
