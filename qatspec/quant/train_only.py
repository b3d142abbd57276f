"""Layers that compute something while training alone: drop path, stochastic depth, noise, and
changes of buffers."""

from __future__ import annotations

from typing import Any

from torch import Tensor, fx, nn


class TrainOnly(nn.Module):
    """x in evaluation; while training what `body` computes of it.

    canonical_op: it is quantized like a dropout, which hands its input on in evaluation.
    """

    canonical_op = "dropout"

    def __init__(self, body: fx.Graph) -> None:
        super().__init__()
        self.body = fx.GraphModule(nn.Module(), body)

    def forward(self, x: Tensor, *others: Any) -> Tensor:
        """x: a tensor; others: what else the body reads. A tensor of x's shape."""
        if not self.training:
            return x
        y: Tensor = self.body(x, *others)
        return y


class Updates(nn.Module):
    """Changes of buffers, which `body` makes of its operands while training. It returns nothing."""

    _is_impure = True  # torch.fx keeps such a call, although nothing reads it

    def __init__(self, body: fx.Graph) -> None:
        super().__init__()
        self.body = fx.GraphModule(nn.Module(), body)

    def forward(self, *operands: Any) -> None:
        """operands: what the body reads."""
        if self.training:
            self.body(*operands)
