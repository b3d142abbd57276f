"""What the models are made of: a convolution with its batch norm, and how weights begin."""

from __future__ import annotations

import math
from collections.abc import Mapping

from torch import Tensor, nn

#: name in specs -> the activation behind a convolution
ACTIVATIONS: Mapping[str, type[nn.Module]] = {"relu": nn.ReLU, "relu6": nn.ReLU6, "silu": nn.SiLU}


class ConvBn(nn.Sequential):
    """Conv2d without bias, BatchNorm2d and, where asked for, an activation (a name of ACTIVATIONS).
    Keeps H, W at stride 1.

    pad_as_tensorflow  False: kernel // 2 on all sides; True: at stride 2 one less at the top and
                       the left, as TensorFlow pads pictures of even sides.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int = 1,
        stride: int = 1,
        groups: int = 1,
        *,
        activation: str | None,
        pad_as_tensorflow: bool = False,
    ) -> None:
        side = kernel // 2
        uneven = pad_as_tensorflow and stride == 2
        before = [nn.ZeroPad2d((side - 1, side, side - 1, side))] if uneven else []
        conv = nn.Conv2d(
            inputs,
            outputs,
            kernel,
            stride,
            padding=0 if uneven else side,
            groups=groups,
            bias=False,
        )
        follow = [ACTIVATIONS[activation]()] if activation else []
        super().__init__(*before, conv, nn.BatchNorm2d(outputs), *follow)


class SeparableConv(nn.Sequential):
    """Depthwise 3x3, then pointwise 1x1; neither has a bias, as a BN follows. Keeps H, W."""

    def __init__(self, inputs: int, outputs: int, dilation: int = 1) -> None:
        depthwise = nn.Conv2d(
            inputs, inputs, 3, padding=dilation, dilation=dilation, groups=inputs, bias=False
        )
        super().__init__(depthwise, nn.Conv2d(inputs, outputs, 1, bias=False))


class SeparableConvBn(nn.Sequential):
    """SeparableConv, BN, ReLU. (N, inputs, H, W) -> (N, outputs, H, W)."""

    def __init__(self, inputs: int, outputs: int, dilation: int = 1) -> None:
        super().__init__(
            SeparableConv(inputs, outputs, dilation), nn.BatchNorm2d(outputs), nn.ReLU()
        )


def initialize(module: nn.Module) -> None:
    """He initialisation of convolutions by fan-out, small normal linear layers, zero biases."""
    for child in module.modules():
        if isinstance(child, nn.Conv2d):
            fan_out = child.out_channels * math.prod(child.kernel_size) // child.groups
            nn.init.normal_(child.weight, std=math.sqrt(2.0 / fan_out))
        elif isinstance(child, nn.Linear):
            nn.init.normal_(child.weight, std=0.01)
        if isinstance(child, nn.Conv2d | nn.Linear) and isinstance(child.bias, Tensor):
            nn.init.zeros_(child.bias)


def set_batch_norms(module: nn.Module, eps: float, momentum: float) -> None:
    """Give every batch norm of `module` these constants; momentum is the new statistics' share."""
    for child in module.modules():
        if isinstance(child, nn.BatchNorm2d):
            child.eps, child.momentum = eps, momentum
