"""What families have in common: rounding of channels, and conv with batch norm."""

from __future__ import annotations

import math
from collections.abc import Callable

from torch import nn


def scaled(channels: float, width: float = 1.0, divisor: int = 8) -> int:
    """channels * width to the nearest multiple of `divisor`, never below 90 % of it (the rounding
    of MobileNetV2 and everything after it)."""
    target = channels * width
    rounded = max(divisor, int(target + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * target else rounded


def repeats(blocks: int, depth: float = 1.0) -> int:
    """blocks * depth, rounded up, at least one."""
    return max(1, math.ceil(blocks * depth))


def conv_bn(
    cin: int,
    cout: int,
    kernel: int | tuple[int, int] = 1,
    stride: int = 1,
    groups: int = 1,
    act: Callable[[], nn.Module] | None = nn.ReLU,
    dilation: int = 1,
    eps: float = 1e-5,
) -> nn.Sequential:
    """Conv without bias, batch norm, activation; padded so that stride 1 keeps the size."""
    kernels = (kernel, kernel) if isinstance(kernel, int) else kernel
    padding = tuple(dilation * (k - 1) // 2 for k in kernels)
    conv = nn.Conv2d(cin, cout, kernel, stride, padding, dilation, groups, bias=False)
    layers = [conv, nn.BatchNorm2d(cout, eps=eps)]
    return nn.Sequential(*layers, *([act()] if act else []))
