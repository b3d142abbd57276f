"""The operand of a function that has a pole or an infinite slope at a number of its grid.

A real divisor is rarely 0; on a grid, everything below half a step is. The usual idioms against a
division by zero (`x / (y + eps)`, `y.clamp(min=eps)`) then have no effect.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from qatspec.quant.fake_quant import FakeQuantize


class GuardedOperand(nn.Module):
    """Passes a tensor on, and in the backward replaces what is not finite by 0.

    fake_quant  whose grid the tensor is on; while it is off, nothing is changed.
    lifts_zero  a 0 becomes one step of the grid, as in the Program (kind `divide`).
    """

    canonical_op = "guarded"

    def __init__(self, fake_quant: FakeQuantize | None = None, lifts_zero: bool = False) -> None:
        super().__init__()
        self._fake_quants = (fake_quant,)  # not a submodule: it is at a path of its own
        self.lifts_zero = lifts_zero

    @property
    def step(self) -> Tensor | None:
        """What a 0 becomes, (1,) float32; None where it stays."""
        (fake_quant,) = self._fake_quants
        return fake_quant.scale if fake_quant is not None and self.lifts_zero else None

    def forward(self, x: Tensor) -> Tensor:
        (fake_quant,) = self._fake_quants
        if fake_quant is None or not fake_quant.fake_quant_on:
            return x
        y: Tensor = _Guard.apply(x, self.step)  # type: ignore[no-untyped-call]
        return y

    def extra_repr(self) -> str:
        return f"lifts_zero={self.lifts_zero}"


class _Guard(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, step: Tensor | None) -> Tensor:
        return x.clone() if step is None else torch.where(x == 0, step.detach(), x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return torch.nan_to_num(grads[0], nan=0.0, posinf=0.0, neginf=0.0), None
