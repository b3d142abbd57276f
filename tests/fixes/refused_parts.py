"""Modules that are refused, each line marked with the codes that it is refused by."""

from __future__ import annotations

import inspect
import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Part(nn.Module):
    """(N, 4, H, W) to the same."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.other = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)


class Fine(Part):
    def forward(self, x: Tensor) -> Tensor:
        return self.other(self.conv(x).relu())


class Once(nn.Module):
    """The first convolution of a part is its only one."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 1)


class Decides(Once):
    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        if x.sum() > 0:  # QS501
            x = x + 1
        return x


class Raises(Once):
    def forward(self, x: Tensor) -> Tensor:
        if torch.isnan(x).any():  # QS501
            raise ValueError
        return self.conv(x)


class Asserts(Once):
    def forward(self, x: Tensor) -> Tensor:
        assert x.min() > -1e9  # QS501
        return self.conv(x)


class Loops(Once):
    def forward(self, x: Tensor) -> Tensor:
        while x.abs().max() > 1e6:  # QS501
            x = x / 2
        for _ in range(int(x.abs().max())):  # QS501
            x = x * 0.9
        return self.conv(x)


class Counts(Once):
    def forward(self, x: Tensor) -> Tensor:
        if (x > 0).nonzero().shape[0] > 3:  # QS501
            x = x / 2
        if x.max().item() > 3:  # QS501
            x = x / 2
        return self.conv(x)


class Arrays(Once):
    def forward(self, x: Tensor) -> Tensor:
        return self.conv(torch.from_numpy(np.array(x.detach().numpy() * 2)))  # QS502


class Writes(Once):
    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        first = x[:, :2]
        x += 1  # QS502
        x = torch.cat([first, x[:, 2:]], 1)
        return torch.add(x, x, out=torch.zeros(x.shape))  # QS502


class Batches(Once):
    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x) / x.shape[0]  # QS512


class Drops(Once):
    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(self.conv(x), 0.3)  # QS510


class Draws(Once):
    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x) + torch.randn_like(x)  # QS510


class Modes(Part):
    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x) if self.training else self.other(self.conv(x + 1))  # QS503


class Doubles(Once):
    def forward(self, x: Tensor) -> Tensor:
        return (self.conv(x).double() * 2).float()  # QS509


class Masks(Once):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mask", torch.tensor([0.0, -math.inf, 0.0, 0.0]).view(1, 4, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(self.conv(x) + self.mask)  # QS613


class Clamps(Once):
    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        with torch.no_grad():
            x.clamp_(-5, 5)  # QS515
        return x


class Sums(Once):
    def forward(self, x: Tensor) -> Tensor:
        return torch.cumprod(self.conv(x), 1)  # QS701


class Spectrum(Once):
    def forward(self, x: Tensor) -> Tensor:
        return torch.fft.fft2(self.conv(x)).abs()  # QS701


class Recurs(Once):
    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(8, 8, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x) * self.gru(x.mean(1))[0].unsqueeze(1)  # QS701


PARTS: tuple[type[nn.Module], ...] = (
    Fine, Decides, Raises, Asserts, Loops, Counts, Arrays, Writes, Batches, Drops, Draws,
    Modes, Doubles, Masks, Clamps, Sums, Spectrum, Recurs,
)  # fmt: skip


def marked(part: type[nn.Module]) -> set[tuple[str, int]]:
    """(code, line) of each marked line of a module's class."""
    lines, first = inspect.getsourcelines(part)
    return {(s.rpartition("# ")[2].strip(), i) for i, s in enumerate(lines, first) if "# QS" in s}
