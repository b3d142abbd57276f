"""Functional convs, linears and batch norms as modules: weights and statistics stay wherever the
model holds them and come as inputs, behind x."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from qatspec.quant.geometry import Geometry


class FunctionalConv(nn.Module):
    """F.conv1d, F.linear and the like."""

    def __init__(self, geometry: Geometry) -> None:
        super().__init__()
        self.geometry = geometry

    @property
    def canonical_op(self) -> str:
        """What the module computes, for `canonical_op`."""
        return self.geometry.op

    def forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return self.geometry.apply(x, weight, bias)

    def extra_repr(self) -> str:
        return self.geometry.op


class FunctionalNorm(nn.Module):
    """F.batch_norm with running statistics, knowing the mode by itself.

    fixed: the model's code says training=False in every mode.
    """

    @property
    def canonical_op(self) -> str:
        """What the module computes, for `canonical_op`."""
        return "batch_norm"

    def __init__(self, momentum: float, eps: float, fixed: bool) -> None:
        super().__init__()
        self.momentum, self.eps, self.fixed = momentum, eps, fixed

    def train(self, mode: bool = True) -> FunctionalNorm:
        super().train(mode)
        self.training = mode and not self.fixed
        return self

    def forward(
        self,
        x: Tensor,
        mean: Tensor,
        variance: Tensor,
        gamma: Tensor | None = None,
        beta: Tensor | None = None,
    ) -> Tensor:
        return F.batch_norm(x, mean, variance, gamma, beta, self.training, self.momentum, self.eps)

    def extra_repr(self) -> str:
        return f"momentum={self.momentum}, eps={self.eps}"
