"""Small composites of torch, as functions and as modules, and pools whose input has no channels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.forms import all_forms_agree

X = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(5))


def _apart(x: Tensor) -> tuple[Tensor, Tensor]:
    return x[:, :3], x[:, 3:]


def _rows(x: Tensor) -> Tensor:
    return x.flatten(2)


#: what is called -> a module (None: a function), and what is given to it
CASES: dict[str, tuple[Any, Callable[[Any, Tensor], Tensor]]] = {
    "response norm": (nn.LocalResponseNorm(5, 0.1, k=2.0), lambda m, x: m(x)),
    "response norm of rows": (None, lambda m, x: F.local_response_norm(_rows(x), 4)),
    "root of powers": (nn.LPPool2d(2, 3, stride=2), lambda m, x: m(x)),
    "root of powers of rows": (nn.LPPool1d(2, 4), lambda m, x: m(_rows(x.relu()))),
    "rms norm": (nn.RMSNorm(6, eps=1e-5), lambda m, x: m(x.permute(0, 2, 3, 1))),
    "softmax of channels": (nn.Softmax2d(), lambda m, x: m(x * 3)),
    "softmin": (nn.Softmin(1), lambda m, x: m(x * 3)),
    "bilinear": (nn.Bilinear(6, 6, 4), lambda m, x: m(x.mean((2, 3)), x.amax((2, 3)))),
    "cosine": (nn.CosineSimilarity(), lambda m, x: m(*_apart(_rows(x)))),
    "distance": (nn.PairwiseDistance(keepdim=True), lambda m, x: m(*_apart(_rows(x)))),
    "sums of distances": (nn.PairwiseDistance(1), lambda m, x: m(*_apart(x))),
    "hypot": (None, lambda m, x: torch.hypot(*_apart(x))),
    "logaddexp": (None, lambda m, x: torch.logaddexp(*_apart(x))),
    "hypot of one channel": (None, lambda m, x: torch.hypot(x[:, :1], x)),
    "logaddexp of means": (None, lambda m, x: torch.logaddexp(x, x.mean((2, 3), keepdim=True))),
    "hypot of a constant": (None, lambda m, x: torch.hypot(x, torch.ones(1, 6, 1, 1))),
    "extremes": (None, lambda m, x: torch.fmax(*_apart(x)) - x[:, :3].fmin(x[:, 3:])),
    "product of vectors": (None, lambda m, x: torch.linalg.vecdot(*_apart(x), dim=1)),
    "diagonals": (None, lambda m, x: x.diagonal(1, 2, 3) + torch.diagonal(x, -1, -2, -1)),
    "triangles": (None, lambda m, x: x.tril() - torch.triu(x, 1)),
    "max of volumes": (nn.MaxPool3d(2), lambda m, x: m(x)),
    "mean of volumes": (nn.AvgPool3d((3, 1, 1), 1, (1, 0, 0)), lambda m, x: m(x)),
    "adaptive volumes": (nn.AdaptiveAvgPool3d(2), lambda m, x: m(x)),
    "max of numbers": (nn.MaxPool1d(2), lambda m, x: m(x.mean((2, 3)))),
    "mean of pictures": (None, lambda m, x: F.avg_pool2d(x.mean(1), 2)),
}


class Net(nn.Module):
    def __init__(self, name: str) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3, padding=1)
        self.part, self.function = CASES[name]

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.part, self.conv(x))


@pytest.mark.parametrize("name", CASES)
def test_all_forms_agree(name: str, tmp_path) -> None:
    torch.manual_seed(0)
    all_forms_agree(Net(name), X, tmp_path, noise=0.2, steps=2.01, qconfig="horizon_qat")
