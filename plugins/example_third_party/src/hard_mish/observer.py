"""An observer: the range is four standard deviations of everything seen, or less."""

import torch

from qatspec.api import Observer


class FourSigma(Observer):
    """Sums in float64 buffers, so that checkpoints keep them. Per tensor."""

    count: torch.Tensor
    squares: torch.Tensor

    def __init__(self, qspec, channels=1):
        super().__init__(qspec, channels)
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))
        self.register_buffer("squares", torch.zeros((), dtype=torch.float64))

    def forward(self, x):
        low, high = self.extremes(x)
        finite = torch.isfinite(low) & torch.isfinite(high)  # else the batch leaves no trace
        self.min_val.copy_(torch.where(finite, torch.minimum(self.min_val, low), self.min_val))
        self.max_val.copy_(torch.where(finite, torch.maximum(self.max_val, high), self.max_val))
        self.count.add_(torch.where(finite, x.numel(), 0))
        self.squares.add_(torch.where(finite, x.double().square().sum(), 0.0))

    def amax(self):
        deviation = (self.squares / self.count.clamp(min=1)).sqrt()
        return torch.minimum((4 * deviation).float(), super().amax())
