"""Steps of learned scales."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from qatspec.quant.learned import LearnedFakeQuantize
from qatspec.quant.regrid import MIN_SCALE

#: Optimizers whose step is proportional to the gradient. The others divide by its size, so that
#: each parameter moves by about the learning rate, whatever its own size.
_PROPORTIONAL = ("sgd", "asgd")
#: A scale loses at most this part of itself in a step.
_LARGEST_LOSS = 0.5


class LearnedScales:
    """The learned scales of a model while an optimizer trains them.

    Scales differ by orders of magnitude, and a small one reaches zero in a few steps of a size that
    suits a large one; its channel is then lost. Under an optimizer that moves every parameter by
    about the learning rate, a scale moves by that part of itself instead.
    """

    def __init__(self, model: nn.Module, optimizer: str) -> None:
        learned = [m for m in model.modules() if isinstance(m, LearnedFakeQuantize)]
        self._scales = [m.scale for m in learned if m.scale.requires_grad]
        self._relative = optimizer not in _PROPORTIONAL
        self._before: list[Tensor] = []

    @torch.no_grad()
    def before_step(self) -> None:
        """Call before each step of the optimizer."""
        if self._relative:
            self._before = [scale.clone() for scale in self._scales]

    @torch.no_grad()
    def after_step(self) -> None:
        """Make the step relative where it has to be, and keep every scale positive: the next
        forward would do so too, but evaluation and checkpoints come before it."""
        if not self._scales:
            return
        if self._relative:
            torch._foreach_sub_(self._scales, self._before)
            torch._foreach_clamp_min_(self._scales, -_LARGEST_LOSS)
            torch._foreach_add_(self._scales, 1.0)
            torch._foreach_mul_(self._scales, self._before)
        torch._foreach_clamp_min_(self._scales, MIN_SCALE)
