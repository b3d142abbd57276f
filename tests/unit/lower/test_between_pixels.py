"""Ops that read between pixels are refused with their price: how many numbers they would read."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, library, nn

from qatspec.diag import DiagnosticError
from qatspec.lower import lower
from qatspec.prepare import prepare, set_stage

CHANNELS, MADE, SIZE, KERNEL = 4, 6, (8, 6), (3, 5)
LIBRARY = library.Library("qatspec_deforms", "FRAGMENT")  # torchvision may be absent
LIBRARY.define("deform_conv2d(Tensor x, Tensor weight, Tensor offset) -> Tensor")


def _deformed(x: Tensor, weight: Tensor, offset: Tensor) -> Tensor:
    return x.new_zeros(x.shape[0], weight.shape[0], *offset.shape[2:])


LIBRARY.impl("deform_conv2d", _deformed, "CompositeExplicitAutograd")
CASES: dict[str, tuple[Callable[[Any, Tensor], Tensor], int]] = {
    "deformable convolution": (
        lambda net, x: torch.ops.qatspec_deforms.deform_conv2d(x, net.weight, net.offset(x)),
        4 * CHANNELS * math.prod(KERNEL) * math.prod(SIZE),
    ),
    "grid sample": (
        lambda net, x: F.grid_sample(x, x[:, :2].movedim(1, 3), align_corners=False),
        4 * CHANNELS * math.prod(SIZE),
    ),
}


class Net(nn.Module):
    def __init__(self, step: Callable[[Any, Tensor], Tensor]) -> None:
        super().__init__()
        self.conv, self.step = nn.Conv2d(3, CHANNELS, 1), step
        self.offset = nn.Conv2d(CHANNELS, 2 * math.prod(KERNEL), 1)
        self.weight = nn.Parameter(torch.randn(MADE, CHANNELS, *KERNEL))

    def forward(self, x: Tensor) -> Tensor:
        return self.step(self, self.conv(x)) * 0.5


@pytest.mark.parametrize("name", CASES)
def test_the_price_is_told(name: str) -> None:
    step, numbers = CASES[name]
    x = torch.randn(2, 3, *SIZE)
    prepared = prepare(Net(step), (x,), qconfig="horizon_qat")
    prepared.model(x)
    set_stage(prepared, "eval")
    with pytest.raises(DiagnosticError) as caught:
        lower(prepared, (x,))
    (found,) = caught.value.diagnostics
    assert found.code == "QS701" and f"read {numbers} numbers of each image" in found.message
