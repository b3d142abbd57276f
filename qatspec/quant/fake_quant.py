"""Fake quantization: what the chip's integers do to a float tensor, and a gradient through it.

The forward is clamp(round_half_even(x / scale), qmin, qmax) * scale with a true float32 division
(rule: exact rounding; torch multiplies by 1/scale and rounds differently near ties). The backward
is the straight-through estimator (Bengio et al. 2013): 1 within the range, 0 outside.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from qatspec.quant.regrid import MIN_SCALE, converted, scale_from
from qatspec.types import QSpec

Bounds = tuple[float, float]
#: Key of a state dict, at a fake-quant whose calibration was fed a number that is not finite.
NOT_FINITE = "not_finite"


class _StraightThrough(torch.autograd.Function):
    """One division, one fresh tensor, the rest in place. The quotient is computed again in the
    backward, unless the bounds of x are known: it is cheaper than writing it out, and x is usually
    alive anyway."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, scale: Tensor, qmin: int, qmax: int, bounds: Bounds | None
    ) -> Tensor:
        # A module called again before the backward observes again, and moves its scale in place.
        ctx.save_for_backward(*((x, scale.clone()) if bounds is None else (x,)))
        ctx.bounds = bounds or straight_through_bounds(qmin, qmax)
        return torch.div(x, scale).round_().clamp_(qmin, qmax).mul_(scale)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, *scales = ctx.saved_tensors
        bounded = torch.div(x, scales[0]) if scales else x
        # Public only as an aten op: mask and multiply in one pass over memory.
        grad = torch.ops.aten.hardtanh_backward(grads[0], bounded, *ctx.bounds)
        return grad, None, None, None, None


def straight_through_bounds(qmin: int, qmax: int) -> Bounds:
    """Return the bounds of x / scale between which a gradient passes, both excluded, as
    hardtanh_backward has them: round(qmax + 0.5) is qmax + 1 and outside, but round(qmin - 0.5) is
    qmin (half to even) and inside, so that the bound is one float32 step lower."""
    return qmin - 0.5 - math.ldexp(1.0, math.frexp(0.5 - qmin)[1] - 24), qmax + 0.5


def bounds_of_x(scale: float, qmin: int, qmax: int) -> Bounds:
    """Return `straight_through_bounds` as float32 bounds of x itself: the largest x whose quotient
    does not exceed the lower bound, and the smallest whose quotient reaches the upper one."""
    step = np.float32(scale)
    low, high = (np.float32(bound) for bound in straight_through_bounds(qmin, qmax))
    least, most = low * step, high * step  # at most a rounding away from the bounds
    while least / step > low:
        least = np.nextafter(least, np.float32("-inf"))
    while np.nextafter(least, np.float32("inf")) / step <= low:
        least = np.nextafter(least, np.float32("inf"))
    while most / step < high:
        most = np.nextafter(most, np.float32("inf"))
    while np.nextafter(most, np.float32("-inf")) / step >= high:
        most = np.nextafter(most, np.float32("-inf"))
    return float(least), float(most)


def fake_quantize(
    x: Tensor, scale: Tensor, qmin: int, qmax: int, bounds: Bounds | None = None
) -> Tensor:
    """Quantize and dequantize. x float32; scale (1,), or (C,) along dimension 0 of x. bounds:
    `bounds_of_x`, where they are known."""
    result: Tensor = _StraightThrough.apply(x, _along(scale, x), qmin, qmax, bounds)  # type: ignore[no-untyped-call]
    return result


def _along(scale: Tensor, x: Tensor) -> Tensor:
    """`scale` shaped so that it meets dimension 0 of x."""
    if scale.numel() == 1:
        return scale if x.ndim else scale.reshape(())  # (1,) would make x one-dimensional
    return scale.reshape(-1, *[1] * (x.ndim - 1))


def is_usable_scale(scale: Tensor, qmax: int) -> Tensor:
    """Whether each number of `scale` can be one: a positive normal float32 number, with a finite
    largest value."""
    return (scale >= torch.finfo(torch.float32).tiny) & (scale * (qmax + 1)).isfinite()


class FakeQuantize(nn.Module):
    """Fake-quant of one tensor: a scale, two switches, and the observer that moves the scale.

    qspec     how the tensor is quantized.
    observer  see qatspec.quant.observers; child `activation_post_process`.
    channels  1, or the number of output channels when qspec.ch_axis is 0.

    Buffers: scale float32 (1,) or (channels,), zero_point (always 0), range_seen (has a scale been
    set), quant_range int64 (qmin, qmax), for which the scale holds, fake_quant_enabled and
    observer_enabled (uint8, for checkpoints and print). The switches have Python mirrors, so that
    forward never reads a tensor to branch.

    learned      do optimizers train the scale (a class attribute)?
    calibrating  observe in eval mode too (set by `set_stage`).
    disabled     an output that is not quantized: keeps its node, disabled (rule: printed model).
    """

    learned = False
    not_finite: Tensor
    zero_point: Tensor
    range_seen: Tensor
    quant_range: Tensor
    fake_quant_enabled: Tensor
    observer_enabled: Tensor

    def __init__(self, qspec: QSpec, observer: nn.Module, channels: int = 1) -> None:
        super().__init__()
        self.qspec = qspec
        size = channels if qspec.ch_axis is not None else 1
        self.register_buffer("fake_quant_enabled", torch.ones(1, dtype=torch.uint8))
        self.register_buffer("observer_enabled", torch.ones(1, dtype=torch.uint8))
        self.register_buffer("scale", torch.ones(size))
        self.register_buffer("zero_point", torch.zeros(size, dtype=torch.int64))
        self.register_buffer("range_seen", torch.zeros(1, dtype=torch.uint8))
        self.register_buffer("quant_range", torch.tensor([qspec.qmin, qspec.qmax]))
        # Of the present calibration alone: part of a state dict only where it is set.
        self.register_buffer("not_finite", torch.zeros(1, dtype=torch.uint8), persistent=False)
        self.activation_post_process = observer
        self._fake_quant_on = True
        self._observer_on = True
        self._has_scale = self._is_behind = False
        self._bounded: tuple[Tensor | None, int, Bounds | None] = None, 0, None
        self.calibrating = False
        self.disabled = False
        if qspec.scale is not None:
            self.set_scale(torch.full((size,), qspec.scale))

    @property
    def scale(self) -> Tensor:
        """The scale of everything that was observed, (1,) or (channels,)."""
        self.settle()
        scale = super().__getattr__("scale")  # among the module's buffers or parameters
        assert isinstance(scale, Tensor)
        return scale

    @property
    def fake_quant_on(self) -> bool:
        """Whether forward quantizes the tensor."""
        return self._fake_quant_on

    @property
    def observer_on(self) -> bool:
        """Whether forward updates the range (in calibration or training)."""
        return self._observer_on

    @property
    def observes(self) -> bool:
        """Whether forward observes now."""
        return self._observer_on and not self.disabled and (self.calibrating or self.training)

    @property
    def observed(self) -> bool:
        """Whether the scale was set, by observation or by a checkpoint."""
        return self._is_behind or bool(self.range_seen.item())

    @property
    def saw_not_finite(self) -> bool:
        """Whether a batch of the current calibration held NaN or infinity."""
        return bool(self.not_finite.item())

    def enable_fake_quant(self, on: bool = True) -> None:
        """Switch quantization in forward; a disabled node stays off."""
        self.settle()
        self._fake_quant_on = on and not self.disabled
        self.fake_quant_enabled.fill_(self._fake_quant_on)

    def enable_observer(self, on: bool = True) -> None:
        """Switch observation."""
        self._observer_on = on
        self.observer_enabled.fill_(on)

    def observe(self, x: Tensor) -> None:
        """Pass x to the observer. The scale follows at once, in calibration when it is needed
        (`settle`): finding a clipping point takes longer than a batch."""
        if x.numel() == 0:
            return
        with torch.no_grad():
            x = x.detach()
            self.activation_post_process(x)
            self._is_behind = self.calibrating
            if self.calibrating:
                self.not_finite.masked_fill_(~self._is_finite(x), 1)
            else:
                self.set_scale(scale_from(self.activation_post_process, self.qspec))

    def _is_finite(self, x: Tensor) -> Tensor:
        """Whether the batch that was just observed was finite, bool ()."""
        finite = getattr(self.activation_post_process, "finite", None)
        if not isinstance(finite, Tensor):
            finite = torch.maximum(-x.amin(), x.amax()) < float("inf")
        return finite.all()

    def settle(self) -> None:
        """Take the scale from what the calibration has observed so far."""
        if self._is_behind:
            self._is_behind = False
            with torch.no_grad():
                self.set_scale(scale_from(self.activation_post_process, self.qspec))

    def set_scale(self, scale: Tensor) -> None:
        """Set the scale, (1,) or (channels,); never below the float32 epsilon."""
        self.scale.copy_(torch.clamp(scale, min=MIN_SCALE))
        if not self._has_scale:
            self._has_scale = True
            self.range_seen.fill_(1)

    def forward(self, x: Tensor) -> Tensor:
        if self.observes:
            self.observe(x)
        if self._fake_quant_on:
            qspec = self.qspec
            return fake_quantize(x, self.scale, qspec.qmin, qspec.qmax, self.bounds(x))
        return x

    def bounds(self, x: Tensor) -> Bounds | None:
        """`bounds_of_x` for a forward of x, where they need not be read from the device each
        time."""
        return None

    def quantize(self, x: Tensor) -> Tensor:
        """The integers of x, in the narrowest torch dtype that holds them."""
        levels = (
            torch.div(x, _along(self.scale, x)).round_().clamp_(self.qspec.qmin, self.qspec.qmax)
        )
        narrow = {"qint16": torch.int16, "quint8": torch.uint8}
        return levels.to(narrow.get(self.qspec.dtype, torch.int8))

    def rounded(self, x: Tensor) -> Tensor:
        """x as its integers have it, whatever the switches say; nothing is observed."""
        return fake_quantize(x, self.scale, self.qspec.qmin, self.qspec.qmax)

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        """Load, with the scale converted where it is of another dtype."""
        state_dict = {**state_dict, **converted(self, state_dict, prefix)}
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
        self._fake_quant_on = bool(self.fake_quant_enabled.item())
        self._observer_on = bool(self.observer_enabled.item())
        self._has_scale, self._is_behind = bool(self.range_seen.item()), False

    def _save_to_state_dict(
        self, destination: dict[str, Any], prefix: str, keep_vars: bool
    ) -> None:
        self.settle()
        super()._save_to_state_dict(destination, prefix, keep_vars)
        if self.calibrating and self.saw_not_finite:
            destination[f"{prefix}{NOT_FINITE}"] = self.not_finite.clone()

    def extra_repr(self) -> str:
        per_channel = self.qspec.ch_axis is not None
        return (
            f"fake_quant_enabled={self.fake_quant_enabled}, "
            f"observer_enabled={self.observer_enabled}, "
            f"quant_min={self.qspec.qmin}, quant_max={self.qspec.qmax}, "
            f"dtype=torch.{self.qspec.dtype}, "
            f"qscheme=torch.per_{'channel' if per_channel else 'tensor'}_symmetric, "
            f"ch_axis={self.qspec.ch_axis if per_channel else -1}, "
            f"scale={self.scale}, zero_point={self.zero_point}"
        )


class FixedActivationFakeQuantize(FakeQuantize):
    """The scale comes from calibration and does not move while training."""

    def bounds(self, x: Tensor) -> Bounds | None:
        if self.scale.numel() != 1 or not (x.requires_grad and torch.is_grad_enabled()):
            return None
        if self.observes or torch.compiler.is_compiling():
            return None
        version = self.scale, self.scale._version
        if self._bounded[0] is not version[0] or self._bounded[1] != version[1]:
            bounds = bounds_of_x(self.scale.item(), self.qspec.qmin, self.qspec.qmax)
            self._bounded = (*version, bounds)
        return self._bounded[2]


class MovingFakeQuantize(FakeQuantize):
    """The scale follows the observer while training."""
