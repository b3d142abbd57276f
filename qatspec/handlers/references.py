"""What the handlers' ops are in real numbers: one example a family, and its reference in numpy.

The kit lowers each example and holds its integers to the reference, within one step of the
result's scale. Nothing here knows how an op is lowered. Weights are -a, 0 and a, which 8 bits hold
but for half a step in 127.5; numbers are float64.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

Reals = NDArray[np.float64]


class Example(nn.Module):
    """A function of one tensor (N, 4, 8, 8) as a module."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


#: (out, in) weight of the examples: differences of neighbouring channels.
WEIGHT = np.eye(4) - np.roll(np.eye(4), 1, 1)
#: (C,) parameters of the examples, one a channel.
SLOPE, SHIFT = np.array([0.5, -1.0, 2.0, 1.5]), np.array([0.25, 0.0, -1.0, 0.5])


def _channels(values: Reals) -> Reals:
    return values[:, None, None]


def example_conv() -> nn.Module:
    """A 1x1 convolution, stride 2."""
    conv = nn.Conv2d(4, 4, 1, stride=2)
    conv.load_state_dict(
        {"weight": torch.tensor(WEIGHT)[..., None, None], "bias": torch.tensor(SHIFT)}
    )
    return conv


def conv(x: Reals) -> Reals:
    """(N, 4, 8, 8) -> (N, 4, 4, 4)."""
    mixed = np.einsum("oi,nihw->nohw", WEIGHT, x[:, :, ::2, ::2])
    return np.asarray(mixed + _channels(SHIFT))


def example_linear() -> nn.Module:
    """A matrix over the last dim, which it takes from 8 to 4."""
    linear = nn.Linear(8, 4)
    weight = np.concatenate([WEIGHT, np.zeros((4, 4))], 1)
    linear.load_state_dict({"weight": torch.tensor(weight), "bias": torch.tensor(SHIFT)})
    return linear


def linear(x: Reals) -> Reals:
    """(N, 4, 8, 8) -> (N, 4, 8, 4)."""
    return np.asarray(x[..., :4] @ WEIGHT.T + SHIFT)


def example_batch_norm() -> nn.Module:
    """A batch norm that has seen something."""
    norm = nn.BatchNorm2d(4, eps=0.0)
    state = {
        "weight": SLOPE, "bias": SHIFT, "running_mean": SHIFT[::-1].copy(), "running_var": SLOPE**2,
    }  # fmt: skip
    norm.load_state_dict({k: torch.tensor(v) for k, v in state.items()}, strict=False)
    return norm


def batch_norm(x: Reals) -> Reals:
    """gamma (x - mean) / deviation + beta."""
    mean, deviation = _channels(SHIFT[::-1]), _channels(np.abs(SLOPE))
    return _channels(SLOPE) * (x - mean) / deviation + _channels(SHIFT)


def example_prelu() -> nn.Module:
    """One slope a channel."""
    prelu = nn.PReLU(4)
    prelu.load_state_dict({"weight": torch.tensor(SLOPE)})
    return prelu


def prelu(x: Reals) -> Reals:
    """x where it is positive, slope x elsewhere."""
    return np.where(x > 0, x, _channels(SLOPE) * x)


def example_sum() -> nn.Module:
    """A tensor and itself turned."""
    return Example(lambda x: x + x.transpose(2, 3))


def total(x: Reals) -> Reals:
    """The sum."""
    return np.asarray(x + x.swapaxes(2, 3))


def example_product() -> nn.Module:
    """A tensor times itself turned."""
    return Example(lambda x: x * x.transpose(2, 3))


def product(x: Reals) -> Reals:
    """The product."""
    return np.asarray(x * x.swapaxes(2, 3))


def example_extremes() -> nn.Module:
    """The larger of a tensor and itself turned."""
    return Example(lambda x: torch.maximum(x, x.transpose(2, 3)))


def extremes(x: Reals) -> Reals:
    """The maximum."""
    return np.asarray(np.maximum(x, x.swapaxes(2, 3)))


def example_cat() -> nn.Module:
    """A tensor behind itself turned."""
    return Example(lambda x: torch.cat([x, x.transpose(2, 3)], 1))


def cat(x: Reals) -> Reals:
    """(N, 4, 8, 8) -> (N, 8, 8, 8)."""
    return np.concatenate([x, x.swapaxes(2, 3)], 1)


def example_div() -> nn.Module:
    """Division by a constant."""
    return Example(lambda x: x / -3)


def div(x: Reals) -> Reals:
    """x / -3."""
    return np.asarray(x / -3)


def example_neg() -> nn.Module:
    """Change of sign."""
    return Example(torch.neg)


def neg(x: Reals) -> Reals:
    """-x."""
    return -x


def example_pow() -> nn.Module:
    """The square."""
    return Example(lambda x: x**2)


def power(x: Reals) -> Reals:
    """x squared."""
    return np.asarray(x**2)


def example_max_pool() -> nn.Module:
    """Windows of 2, side by side."""
    return nn.MaxPool2d(2)


def max_pool(x: Reals) -> Reals:
    """(N, 4, 8, 8) -> (N, 4, 4, 4)."""
    return np.asarray(_windows(x).max((3, 5)))


def example_average() -> nn.Module:
    """Windows of 2, side by side."""
    return nn.AvgPool2d(2)


def average(x: Reals) -> Reals:
    """(N, 4, 8, 8) -> (N, 4, 4, 4)."""
    return np.asarray(_windows(x).mean((3, 5)))


def _windows(x: Reals) -> Reals:
    return x.reshape(*x.shape[:2], 4, 2, 4, 2)


def example_resize() -> nn.Module:
    """Twice the size, bilinear with aligned corners."""
    return nn.UpsamplingBilinear2d(scale_factor=2)


def resize(x: Reals) -> Reals:
    """(N, 4, 8, 8) -> (N, 4, 16, 16): a row of weights for each position, along either axis."""
    position = np.arange(16) * 7 / 15
    taps = np.maximum(1 - np.abs(position[:, None] - np.arange(8)), 0)
    return np.asarray(taps @ x @ taps.T)


def example_pad() -> nn.Module:
    """Edges mirrored."""
    return nn.ReflectionPad2d((1, 2, 3, 0))


def pad(x: Reals) -> Reals:
    """(N, 4, 8, 8) -> (N, 4, 11, 11)."""
    return np.pad(x, ((0, 0), (0, 0), (3, 0), (1, 2)), mode="reflect")


def example_shape() -> nn.Module:
    """A new shape of the same numbers."""
    return Example(lambda x: x.reshape(x.shape[0], 16, 16))


def shape(x: Reals) -> Reals:
    """(N, 4, 8, 8) -> (N, 16, 16)."""
    return x.reshape(-1, 16, 16)


def example_inert() -> nn.Module:
    """A dropout that evaluation passes by."""
    return nn.Dropout()


def inert(x: Reals) -> Reals:
    """x."""
    return x


def example_relu() -> nn.Module:
    """max(x, 0)."""
    return nn.ReLU()


def relu(x: Reals) -> Reals:
    """max(x, 0)."""
    return np.maximum(x, 0)


def example_clamp() -> nn.Module:
    """Bounded on both sides."""
    return nn.Hardtanh(-0.5, 0.75)


def clamp(x: Reals) -> Reals:
    """x within [-0.5, 0.75]."""
    return np.clip(x, -0.5, 0.75)


def example_lut() -> nn.Module:
    """The logistic function."""
    return nn.Sigmoid()


def lut(x: Reals) -> Reals:
    """1 / (1 + e^-x)."""
    return 1 / (1 + np.exp(-x))


def example_matmul() -> nn.Module:
    """A matrix times itself turned."""
    return Example(lambda x: torch.matmul(x, x.transpose(2, 3)))


def matmul(x: Reals) -> Reals:
    """Sums of products of rows."""
    return np.asarray(np.einsum("ncik,ncjk->ncij", x, x))


def example_argmax() -> nn.Module:
    """The place of the largest along the last dim, the first where several are."""
    return Example(lambda x: torch.relu(x).argmax(3))


def argmax(x: Reals) -> Reals:
    """(N, 4, 8, 8) -> (N, 4, 8)."""
    return np.asarray(np.argmax(np.maximum(x, 0), 3), np.float64)


def example_floor_division() -> nn.Module:
    """The third of the place of the largest along the last dim."""
    return Example(lambda x: torch.relu(x).argmax(3) // 3)


def floor_division(x: Reals) -> Reals:
    """(N, 4, 8, 8) -> (N, 4, 8)."""
    return np.asarray(np.floor(argmax(x) / 3), np.float64)


def example_softmax() -> nn.Module:
    """Over the channels."""
    return nn.Softmax(1)


def softmax(x: Reals) -> Reals:
    """e^x / sum e^x."""
    return np.asarray(np.exp(x) / np.exp(x).sum(1, keepdims=True))


def example_log_softmax() -> nn.Module:
    """Over the channels."""
    return nn.LogSoftmax(1)


def log_softmax(x: Reals) -> Reals:
    """x - log sum e^x."""
    return np.asarray(x - np.log(np.exp(x).sum(1, keepdims=True)))


def example_layer_norm() -> nn.Module:
    """Over the last dim, with parameters."""
    return _with_parameters(nn.LayerNorm(8), np.tile(SLOPE, 2), np.tile(SHIFT, 2))


def layer_norm(x: Reals) -> Reals:
    """Rows of mean 0 and variance 1, times gamma, plus beta."""
    return np.asarray(_standardized(x, (3,)) * np.tile(SLOPE, 2) + np.tile(SHIFT, 2))


def example_group_norm() -> nn.Module:
    """Two groups of two channels."""
    return _with_parameters(nn.GroupNorm(2, 4), SLOPE, SHIFT)


def group_norm(x: Reals) -> Reals:
    """Groups of mean 0 and variance 1, times gamma, plus beta."""
    groups = _standardized(x.reshape(-1, 2, 2, 8, 8), (2, 3, 4)).reshape(x.shape)
    return np.asarray(groups * _channels(SLOPE) + _channels(SHIFT))


def example_instance_norm() -> nn.Module:
    """Each channel of each image."""
    return _with_parameters(nn.InstanceNorm2d(4, affine=True), SLOPE, SHIFT)


def instance_norm(x: Reals) -> Reals:
    """Channels of mean 0 and variance 1, times gamma, plus beta."""
    return np.asarray(_standardized(x, (2, 3)) * _channels(SLOPE) + _channels(SHIFT))


def _with_parameters(norm: nn.Module, slope: Reals, shift: Reals) -> nn.Module:
    norm.load_state_dict({"weight": torch.tensor(slope), "bias": torch.tensor(shift)})
    return norm


def _standardized(x: Reals, axes: tuple[int, ...]) -> Reals:
    centred = x - x.mean(axes, keepdims=True)
    return np.asarray(centred / np.sqrt((centred**2).mean(axes, keepdims=True) + 1e-5))
