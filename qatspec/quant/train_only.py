"""Layers that compute something while training alone: drop path, stochastic depth, noise, dropped
weights of an attention, and changes of buffers."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
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


class DroppingAttention(nn.Module):
    """F.scaled_dot_product_attention that drops a share `rate`, 0 to 1, of its weights while
    training."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None, **settings: Any
    ) -> Tensor:
        """Tensors and settings as torch's function takes them. Returns a tensor of query's shape,
        with the last size of value."""
        rate = self.rate if self.training else 0.0
        return F.scaled_dot_product_attention(query, key, value, mask, rate, **settings)


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
