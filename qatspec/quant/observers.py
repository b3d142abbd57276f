"""Observers: modules that record a tensor and compute the largest magnitude to represent.

An observer has `forward(x)`, which updates its buffers and returns nothing, and `amax()`, float32
of shape (1,) or (channels,). Both are plain tensor ops without host syncs. Batches that are empty
or not finite leave no trace, so that a scale is never NaN.

Processes that compute together (torch.distributed) see different pictures and must round alike: an
activation's observer looks at what all of them see, as if it were one batch. Every process has to
call it equally often (as nn.SyncBatchNorm). Weights are equal everywhere already.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor, nn

from qatspec.types import QSpec


class Observer(nn.Module):
    """What every observer keeps: the extremes seen. channels: how many ranges, 1 = per tensor.

    finite  whether the last batch was, bool (C,) or (); set by `extremes`.
    """

    min_val: Tensor
    max_val: Tensor
    finite: Tensor | None = None

    def __init__(self, qspec: QSpec, channels: int = 1) -> None:
        super().__init__()
        self.per_channel = qspec.ch_axis is not None
        shape = (channels,) if self.per_channel else ()
        self.register_buffer("min_val", torch.full(shape, float("inf")))
        self.register_buffer("max_val", torch.full(shape, float("-inf")))

    @property
    def together(self) -> bool:
        """Return whether the batch is a part of a batch that several processes share."""
        return (
            not self.per_channel
            and dist.is_available()
            and dist.is_initialized()
            and dist.get_world_size() > 1
        )

    def extremes(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return (min, max) of the batch `x`, float32: (C,) along dimension 0, or of shape () for
        the whole tensor. Sets `finite`."""
        # Two passes are up to 20 times as fast as torch.aminmax along a dimension (torch 2.13).
        rest = tuple(range(1, x.ndim)) if self.per_channel else ()
        low, high = x.amin(rest), x.amax(rest)
        if self.together:
            # Backends differ in the maximum of a NaN, so it becomes infinity, which has the same
            # effect: the batch leaves no trace.
            bounds = torch.stack([-low, high])
            bounds = torch.where(bounds.isnan(), float("inf"), bounds)
            dist.all_reduce(bounds, dist.ReduceOp.MAX)
            low, high = -bounds[0], bounds[1]
        low, high = low.to(self.min_val.dtype), high.to(self.max_val.dtype)
        self.finite = torch.maximum(-low, high) < float("inf")
        return low, high

    def keep(self, low: Tensor, high: Tensor) -> None:
        """Let `min_val` be `low` and `max_val` be `high`, float32 (C,) or of shape (), where the
        last batch was finite."""
        assert self.finite is not None
        self.min_val.copy_(torch.where(self.finite, low, self.min_val))
        self.max_val.copy_(torch.where(self.finite, high, self.max_val))

    def amax(self) -> Tensor:
        """Return max(|min|, |max|) of all numbers so far, float32 (C,) or (1,); 0 before the first
        one."""
        return torch.maximum(-self.min_val, self.max_val).clamp(min=0.0).reshape(-1)

    def extra_repr(self) -> str:
        return f"min_val={self.min_val}, max_val={self.max_val}"


class MinMaxObserver(Observer):
    """The extremes of everything seen."""

    def forward(self, x: Tensor) -> None:
        low, high = self.extremes(x)
        self.keep(torch.minimum(self.min_val, low), torch.maximum(self.max_val, high))


class MovingAverageMinMaxObserver(Observer):
    """min += c * (current - min), max likewise; the first batch counts whole (Jacob et al. 2018,
    https://arxiv.org/abs/1712.05877, section 3.1).

    c = averaging_constant; 1 follows each batch (weights).
    """

    def __init__(self, qspec: QSpec, channels: int = 1) -> None:
        super().__init__(qspec, channels)
        self.averaging_constant = qspec.averaging_constant

    def forward(self, x: Tensor) -> None:
        low, high = self.extremes(x)
        if self.averaging_constant != 1.0:
            first = self.max_val < self.min_val
            low = torch.where(first, low, self._average(self.min_val, low))
            high = torch.where(first, high, self._average(self.max_val, high))
        self.keep(low, high)

    def _average(self, kept: Tensor, current: Tensor) -> Tensor:
        return kept + self.averaging_constant * (current - kept)


def counts_of(x: Tensor, upper: Tensor, bins: int) -> Tensor:
    """Count the magnitudes of `x` in each of so many equal bins over [0, upper], int64 (bins,).
    The result is arbitrary where numbers are not finite."""
    unit = torch.div(x.float(), upper)
    if x.is_cuda or torch.compiler.is_compiling():
        return torch.histc(unit.abs_(), bins, 0.0, 1.0).to(torch.int64)
    # On a CPU this takes a sixth of the time of histc.
    narrow = torch.int16 if bins < 1 << 15 else torch.int32
    index = unit.mul_(bins).to(narrow).clamp_(1 - bins, bins - 1).abs_()
    return torch.bincount(index.flatten(), minlength=bins)


class HistogramObserver(Observer):
    """Counts of |x| in equal bins over [0, upper].

    `upper` is the first batch's largest magnitude and then only grows, by powers of two, so that
    old bins merge whole: counts stay exact integers and the result does not depend on rounding.
    """

    histogram: Tensor
    upper: Tensor

    def __init__(self, qspec: QSpec, channels: int = 1) -> None:
        super().__init__(qspec, channels)
        self.bins = qspec.bins
        self.register_buffer("histogram", torch.zeros(qspec.bins, dtype=torch.int64))
        self.register_buffer("upper", torch.zeros(()))

    def forward(self, x: Tensor) -> None:
        low, high = self.extremes(x)
        assert self.finite is not None
        self.keep(torch.minimum(self.min_val, low), torch.maximum(self.max_val, high))
        self._grow(torch.where(self.finite, torch.maximum(-low, high), 0.0))
        # A batch of zeros meets upper == 0: the divisor 1 puts it into the first bin.
        upper = torch.where(self.upper > 0, self.upper, 1.0)
        counts = torch.where(self.finite, counts_of(x, upper, self.bins), 0)
        if self.together:
            dist.all_reduce(counts)
        self.histogram.add_(counts)

    def _grow(self, largest: Tensor) -> None:
        """Merge bins until `largest` fits."""
        started = self.upper > 0
        ratio = torch.where(started, largest / torch.where(started, self.upper, 1.0), 1.0)
        doublings = torch.ceil(torch.log2(torch.clamp(ratio, min=1.0)))
        factor = torch.exp2(doublings)
        # log2 rounds: a ratio a hair above a power of two may have stayed below it.
        factor = torch.where(ratio > factor, factor * 2, factor)
        position = torch.arange(self.bins, device=self.histogram.device)
        target = torch.floor(position / factor).to(torch.int64)
        merged = torch.zeros_like(self.histogram).index_add_(0, target, self.histogram)
        self.histogram.copy_(merged)
        self.upper.copy_(torch.where(started, self.upper * factor, largest))

    def edges(self) -> Tensor:
        """Upper edge of each bin, float32 (bins,)."""
        steps = torch.arange(1, self.bins + 1, device=self.upper.device, dtype=torch.float32)
        return steps * (self.upper / self.bins)


class PercentileObserver(HistogramObserver):
    """The magnitude below which `percentile` % of all numbers lie (99.99 over 2,048 bins is the
    vendor's calibration, RDK expert/user_guide.md)."""

    def __init__(self, qspec: QSpec, channels: int = 1) -> None:
        super().__init__(qspec, channels)
        self.percentile = qspec.percentile

    def amax(self) -> Tensor:
        """Return the upper edge of the bin that holds the percentile, at most the largest
        number."""
        total = self.histogram.sum()
        wanted = torch.ceil(total.double() * (self.percentile / 100)).to(torch.int64)
        index = torch.searchsorted(self.histogram.cumsum(0), wanted.reshape(1))
        edge = self.edges()[index.clamp(max=self.bins - 1)]
        return torch.minimum(edge, Observer.amax(self))


class MSEObserver(HistogramObserver):
    """The clipping point, of `candidates` in equal steps up to the largest magnitude, whose
    quantization error has the least mean square (the vendor's default: 100 steps)."""

    candidates = 100

    def __init__(self, qspec: QSpec, channels: int = 1) -> None:
        super().__init__(qspec, channels)
        self.half_range = qspec.half_range
        self.qmax = qspec.qmax

    def amax(self) -> Tensor:
        largest = Observer.amax(self)
        steps = torch.arange(1, self.candidates + 1, device=largest.device, dtype=torch.float32)
        clips = largest * (steps / self.candidates)
        scales = torch.clamp(clips / self.half_range, min=torch.finfo(torch.float32).tiny)
        centres = self.edges() - self.upper / self.bins / 2
        levels = torch.round(centres / scales[:, None]).clamp(max=self.qmax)
        errors = (levels * scales[:, None] - centres).square()
        weighted = (errors.double() * self.histogram).sum(dim=1)
        return clips.index_select(0, torch.argmin(weighted).reshape(1))


class FixedScaleObserver(Observer):
    """Knows the scale beforehand and looks at nothing."""

    def __init__(self, qspec: QSpec, channels: int = 1) -> None:
        super().__init__(qspec, channels)
        assert qspec.scale is not None  # quant.build checks it with a diagnostic
        limit = qspec.scale * qspec.half_range
        self.min_val.fill_(-limit)
        self.max_val.fill_(limit)

    def forward(self, x: Tensor) -> None:
        """Nothing to see."""
