"""Fake-quants whose scale is a parameter, trained with the weights.

The scale is initialized by the observer (calibration, or the first training batch) and belongs to
the optimizer from then on.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from qatspec.quant.fake_quant import FakeQuantize, _along
from qatspec.quant.regrid import MIN_SCALE
from qatspec.types import QSpec


class _Learned(torch.autograd.Function):
    """Forward as every fake-quant; the derivative by the scale is `slope`'s."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, owner: LearnedFakeQuantize) -> Tensor:
        step = _along(scale, x).clone()  # the optimizer moves the scale in place
        ctx.save_for_backward(x, step)
        ctx.owner, ctx.size = owner, scale.shape
        return torch.div(x, step).round_().clamp_(owner.qspec.qmin, owner.qspec.qmax).mul_(step)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        x, step = ctx.saved_tensors
        owner, grad = ctx.owner, grads[0]
        quotient = torch.div(x, step)
        inside = (quotient >= owner.qspec.qmin) & (quotient <= owner.qspec.qmax)
        by_scale = grad * owner.slope(quotient, inside)
        per_channel = ctx.size[0] > 1
        total = by_scale.flatten(1).sum(1) if per_channel else by_scale.sum().reshape(1)
        total = total * owner.gain(x.numel() // ctx.size[0])
        return torch.where(inside, grad, 0.0), total.reshape(ctx.size), None


class LearnedFakeQuantize(FakeQuantize):
    """`scale` is a parameter. Subclasses give its derivative."""

    learned = True

    def __init__(self, qspec: QSpec, observer: nn.Module, channels: int = 1) -> None:
        super().__init__(qspec, observer, channels)
        scale = self.scale
        del self.scale
        self.register_parameter("scale", nn.Parameter(scale.clone()))

    def slope(self, quotient: Tensor, inside: Tensor) -> Tensor:
        """d (quantized / scale) / d scale, element by element. quotient: x / scale; inside: where
        it lies in the integer range."""
        raise TypeError(f"{type(self).__name__} has no derivative")

    def gain(self, numel: int) -> float:
        """Factor of the scale's gradient. numel: number of elements that share one scale."""
        return 1.0

    def set_scale(self, scale: Tensor) -> None:
        with torch.no_grad():
            super().set_scale(scale)

    def forward(self, x: Tensor) -> Tensor:
        if self.disabled:
            return x
        if self._observer_on and (self.calibrating or (self.training and not self._has_scale)):
            self.observe(x)
        if not self._fake_quant_on:
            return x
        if self.training:
            with torch.no_grad():
                self.scale.clamp_(min=MIN_SCALE)
        result: Tensor = _Learned.apply(x, self.scale, self)  # type: ignore[no-untyped-call]
        return result


def clamp_scales(model: nn.Module) -> None:
    """Clamp learned scales to MIN_SCALE, because a step of an optimizer can make them smaller. The
    next training step would do it first; `set_stage` calls this when it leaves qat."""
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, LearnedFakeQuantize):
                module.scale.clamp_(min=MIN_SCALE)


class LsqFakeQuantize(LearnedFakeQuantize):
    """Learned step size quantization (Esser et al. 2020, https://arxiv.org/abs/1902.08153):
    equation 3 is the derivative, section 2.2 the gain 1 / sqrt(N Qp)."""

    def slope(self, quotient: Tensor, inside: Tensor) -> Tensor:
        """round(v) - v inside the range, the bound outside."""
        levels = quotient.round().clamp(self.qspec.qmin, self.qspec.qmax)
        return torch.where(inside, levels - quotient, levels)

    def gain(self, numel: int) -> float:
        """1 / sqrt(N Qp)."""
        return 1.0 / math.sqrt(numel * self.qspec.qmax)


class PactFakeQuantize(LearnedFakeQuantize):
    """Parameterized clipping (PACT, Choi et al. 2018, https://arxiv.org/abs/1805.06085), for the
    symmetric range [-alpha, alpha]: the clipping point learns from what it clips, and from nothing
    else. alpha = scale * half range; the gradient is alpha's in units of the scale, so that a
    step of plain SGD moves alpha exactly as the paper's."""

    def slope(self, quotient: Tensor, inside: Tensor) -> Tensor:
        """The sign of what is clipped, 0 inside."""
        return torch.where(inside, 0.0, quotient.sign())

    def gain(self, numel: int) -> float:
        """1 / half range: alpha to scale."""
        return 1.0 / self.qspec.half_range
