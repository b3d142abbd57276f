"""Idioms of published networks in every form: temporal shifts, maxima of two tensors, torch.mm."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.forms import all_forms_agree

X = torch.randn(2, 3, 6, 8, generator=torch.Generator().manual_seed(0))


def _shifted(net: Any, x: Tensor) -> Tensor:
    out, fold = torch.zeros_like(x), x.size(1) // 4
    out[:, :fold, :, 1:] = x[:, :fold, :, :-1]
    out[:, fold : 2 * fold, :, :-1] = x[:, fold : 2 * fold, :, 1:]
    out[:, 2 * fold :] = x[:, 2 * fold :]
    return out


def _upper_half(net: Any, x: Tensor) -> Tensor:
    y = x.clone()
    y[:, :, : x.shape[2] // 2] = x[:, :, x.shape[2] // 2 :]
    return y


def _last_channel(net: Any, x: Tensor) -> Tensor:
    y, last = x.clone(), x.shape[1] - 1
    y[:, last] = x[:, 0]
    return y


STEPS: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "shifted by parts of the channels": _shifted,
    "half of the height": _upper_half,
    "the last channel": _last_channel,
    "max with a parameter": lambda net, x: torch.max(x, net.floor),
    "max of two": lambda net, x: torch.max(x, other=x.flip(1)),
    "min with a parameter": lambda net, x: x.min(net.floor),
    "max over a dim": lambda net, x: torch.max(x, dim=1, keepdim=True)[0] + x,
    "mm": lambda net, x: torch.mm(x.mean((2, 3)), net.matrix),
    "mm as a method": lambda net, x: x.mean((2, 3)).mm(mat2=net.matrix),
}


class Net(nn.Module):
    def __init__(self, step: Callable[[Any, Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.step = nn.Conv2d(3, 8, 3, padding=1), step
        self.floor = nn.Parameter(torch.full((1, 8, 1, 1), -0.1))
        self.matrix = nn.Parameter(torch.randn(8, 4))

    def forward(self, x: Tensor) -> Tensor:
        return self.step(self, self.conv(x))


@pytest.mark.parametrize("name", STEPS)
def test_all_forms(name: str, tmp_path: Path) -> None:
    all_forms_agree(Net(STEPS[name]).eval(), X, tmp_path, noise=0.1, steps=2.02)
