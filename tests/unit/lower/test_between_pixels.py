"""Ops that read between pixels are refused with their price: how many numbers they would read."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, library, nn

from qatspec.diag import Diagnostic, DiagnosticError
from qatspec.lower import lower
from qatspec.prepare import prepare, set_stage

CHANNELS, MADE, SIZE, KERNEL = 4, 6, (8, 6), (3, 5)
LIBRARY = library.Library("qatspec_deforms", "FRAGMENT")  # torchvision may be absent
LIBRARY.define("deform_conv2d(Tensor x, Tensor weight, Tensor offset) -> Tensor")


def _deformed(x: Tensor, weight: Tensor, offset: Tensor) -> Tensor:
    return x.new_zeros(x.shape[0], weight.shape[0], *offset.shape[2:])


LIBRARY.impl("deform_conv2d", _deformed, "CompositeExplicitAutograd")
#: name -> (op, numbers read for an image, what the advice writes in its place).
Step = Callable[[Any, Tensor], Tensor]
CASES: dict[str, tuple[Step, int, Step]] = {
    "deformable convolution": (
        lambda net, x: torch.ops.qatspec_deforms.deform_conv2d(x, net.weight, net.offset(x)),
        4 * CHANNELS * math.prod(KERNEL) * math.prod(SIZE),
        lambda net, x: net.ordinary(x),
    ),
    "grid sample": (
        lambda net, x: F.grid_sample(x, x[:, :2].movedim(1, 3), align_corners=False),
        4 * CHANNELS * math.prod(SIZE),
        lambda net, x: F.grid_sample(
            x, net.grid.expand(x.shape[0], -1, -1, -1), align_corners=False
        ),
    ),
}


class Net(nn.Module):
    def __init__(self, step: Step) -> None:
        super().__init__()
        self.conv, self.step = nn.Conv2d(3, CHANNELS, 1), step
        self.offset = nn.Conv2d(CHANNELS, 2 * math.prod(KERNEL), 1)
        self.weight = nn.Parameter(torch.randn(MADE, CHANNELS, *KERNEL))
        self.ordinary = nn.Conv2d(CHANNELS, MADE, 3)
        self.register_buffer("grid", torch.rand(1, *SIZE, 2) * 2 - 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.step(self, self.conv(x)) * 0.5


def _lowered(step: Step) -> list[Diagnostic]:
    x = torch.randn(2, 3, *SIZE)
    prepared = prepare(Net(step), (x,), qconfig="horizon_qat")
    prepared.model(x)
    set_stage(prepared, "eval")
    try:
        lower(prepared, (x,))
    except DiagnosticError as error:
        return list(error.diagnostics)
    return []


@pytest.mark.parametrize("name", CASES)
def test_the_price_is_told_and_the_advice_works(name: str) -> None:
    step, numbers, instead = CASES[name]
    (found,) = _lowered(step)
    assert found.code == "QS701" and f"read {numbers} numbers of each image" in found.message
    words = {"grid sample": "constant positions", "deformable convolution": "nn.Conv2d"}
    assert words[name] in (found.help or "")
    assert _lowered(instead) == []
