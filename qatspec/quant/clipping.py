"""Observers that weigh clipping against rounding: divergence, a choice of several, and the
percentile and mse of weights, channel by channel."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from qatspec.quant.observers import HistogramObserver, MSEObserver, Observer, PercentileObserver
from qatspec.types import QSpec


class KLObserver(HistogramObserver):
    """The clipping point whose quantized histogram has the least Kullback-Leibler divergence from
    the histogram itself (Migacz, "8-bit inference with TensorRT", GTC 2017): of `candidates` equal
    steps between as many bins as there are levels and all bins.

    The first bin counts as much as the second (as in NVIDIA's pytorch-quantization): a ReLU's many
    zeros are exact at any scale, and their mass would make everything else look negligible."""

    candidates = 100

    def __init__(self, qspec: QSpec, channels: int = 1) -> None:
        super().__init__(qspec, channels)
        self.levels = min(qspec.qmax + 1, qspec.bins)

    def amax(self) -> Tensor:
        device = self.histogram.device
        steps = torch.linspace(self.levels, self.bins, self.candidates, device=device)
        kept = steps.round().to(torch.int64)[:, None]  # bins below each clipping point
        index = torch.arange(self.bins, device=device)[None]
        histogram = torch.cat([self.histogram[1:2], self.histogram[1:]]).double()
        counts = histogram[None] * (index < kept)
        clipped = histogram.sum() - counts.sum(1, keepdim=True)
        reference = counts + clipped * (index == kept - 1)
        level = (index * self.levels // kept).clamp(max=self.levels - 1)
        empty = counts.new_zeros(self.candidates, self.levels)
        filled = (counts > 0).double()
        total = empty.scatter_add(1, level, counts)
        bins = empty.scatter_add(1, level, filled).clamp(min=1)
        spread = (total / bins).gather(1, level) * filled
        divergence = _divergence(reference, spread)
        best = kept[:, 0].index_select(0, torch.argmin(divergence).reshape(1))
        edge = best.float() * (self.upper / self.bins)
        return torch.minimum(edge, Observer.amax(self))


def _divergence(reference: Tensor, approximation: Tensor) -> Tensor:
    """sum p log(p / q), row by row; a q of 0 counts as 1e-10."""
    p = reference / reference.sum(1, keepdim=True).clamp(min=1)
    q = approximation / approximation.sum(1, keepdim=True).clamp(min=1)
    return torch.where(p > 0, p * (p / q.clamp(min=1e-10)).log(), 0.0).sum(1)


class MixObserver(PercentileObserver, MSEObserver, KLObserver):
    """Of min_max, percentile, mse and kl, the clipping point with the least mean absolute
    quantization error. (By the square error mse would always win.)"""

    def amax(self) -> Tensor:
        clips = torch.cat(
            [
                Observer.amax(self),
                PercentileObserver.amax(self),
                MSEObserver.amax(self),
                KLObserver.amax(self),
            ]
        )
        scales = (clips / self.half_range).clamp(min=torch.finfo(torch.float32).tiny)[:, None]
        centres = self.edges() - self.upper / self.bins / 2
        levels = torch.round(centres / scales).clamp(max=self.qmax)
        errors = ((levels * scales - centres).abs().double() * self.histogram).sum(1)
        return clips.index_select(0, torch.argmin(errors).reshape(1))


class ChannelClippingObserver(Observer):
    """What per-channel observers of weights share: weights change as a whole with each step, so
    the range is that of the present ones, computed from them and not from a histogram."""

    clip: Tensor

    def __init__(self, qspec: QSpec, channels: int = 1) -> None:
        super().__init__(qspec, channels)
        self.register_buffer("clip", torch.zeros(channels))

    def forward(self, x: Tensor) -> None:
        self.keep(*self.extremes(x))
        assert self.finite is not None
        clip = self.find(x.flatten(1).float().abs())
        self.clip.copy_(torch.where(self.finite, clip, self.clip))

    def find(self, magnitudes: Tensor) -> Tensor:
        """The clipping point of each row of |x|, (channels, numel) -> (channels,)."""
        raise TypeError(f"{type(self).__name__} finds nothing")

    def amax(self) -> Tensor:
        return self.clip.clone()


class ChannelPercentileObserver(ChannelClippingObserver):
    """The magnitude that `percentile` % of a channel's weights do not exceed."""

    def __init__(self, qspec: QSpec, channels: int = 1) -> None:
        super().__init__(qspec, channels)
        self.percentile = qspec.percentile

    def find(self, magnitudes: Tensor) -> Tensor:
        count = magnitudes.shape[1]
        rank = max(1, -int(-count * self.percentile // 100))
        return magnitudes.kthvalue(min(rank, count), dim=1).values


class ChannelMSEObserver(ChannelClippingObserver):
    """The clipping point, of `candidates` in equal steps up to a channel's largest magnitude, with
    the least mean square error."""

    candidates = 100

    def __init__(self, qspec: QSpec, channels: int = 1) -> None:
        super().__init__(qspec, channels)
        self.half_range = qspec.half_range
        self.qmax = qspec.qmax

    def find(self, magnitudes: Tensor) -> Tensor:
        largest = magnitudes.amax(1, keepdim=True)
        best = largest
        least = torch.full_like(largest, float("inf"))
        for step in range(1, self.candidates + 1):
            clip = largest * (step / self.candidates)
            scale = (clip / self.half_range).clamp(min=torch.finfo(torch.float32).tiny)
            levels = torch.round(magnitudes / scale).clamp(max=self.qmax)
            error = (levels * scale - magnitudes).square().sum(1, keepdim=True)
            best = torch.where(error < least, clip, best)
            least = torch.minimum(error, least)
        return best[:, 0]


def percentile(qspec: QSpec, channels: int = 1) -> nn.Module:
    """The percentile observer of an activation, or of a weight's channels."""
    cls = PercentileObserver if qspec.ch_axis is None else ChannelPercentileObserver
    return cls(qspec, channels)


def mse(qspec: QSpec, channels: int = 1) -> nn.Module:
    """The mse observer of an activation, or of a weight's channels."""
    cls = MSEObserver if qspec.ch_axis is None else ChannelMSEObserver
    return cls(qspec, channels)
