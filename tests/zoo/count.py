"""Parameters and multiply-adds of a net, without computing anything."""

from __future__ import annotations

import math

import torch
from torch import nn

_CONVS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


def params(model: nn.Module) -> int:
    """Elements of the model's parameters; a shared one counts once."""
    return sum(p.numel() for p in model.parameters())


def macs(model: nn.Module, size: tuple[int, ...], channels: int = 3) -> int:
    """Multiply-adds of convolutions, linear layers and deconvolutions for one image; biases,
    norms, pools, activations and products of two feature maps do not count.

    model: on the meta device, where tensors have shapes and no numbers.
    """
    total = 0

    def count(module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        nonlocal total
        if isinstance(module, nn.Linear):
            total += output.numel() * module.in_features
        elif isinstance(module, _CONVS):
            total += output.numel() * module.weight[0].numel()
        elif isinstance(module, _TRANSPOSED):
            spread = module.out_channels // module.groups * math.prod(module.kernel_size)
            total += inputs[0].numel() * spread

    counted = (nn.Linear, *_CONVS, *_TRANSPOSED)
    hooks = [m.register_forward_hook(count) for m in model.modules() if isinstance(m, counted)]
    with torch.no_grad():
        model.eval()(torch.zeros(1, channels, *size, device="meta"))
    for hook in hooks:
        hook.remove()
    return total
