"""Indices that are arrays of NumPy, and masks that depend on no input."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from tests.forms import all_forms_agree
from tests.layers import Op

X = torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(3))
MASK = np.array([True, False, True, True])
FUNCTIONS = {
    "an array": lambda x: x[:, np.array([3, 1, -4])],
    "a number of NumPy": lambda x: x[:, np.int64(2), : np.int64(3)],
    "an array of two dims": lambda x: x[:, np.array([[0, 1], [3, 2]])],
    "a mask of NumPy": lambda x: x[:, MASK] + x[:, np.flatnonzero(MASK)],
    "a mask in a list": lambda x: x[:, [False, True, True, False]],
    "a mask in a tensor": lambda x: x[:, torch.tensor([False, True, True, False])],
    "a factor of NumPy": lambda x: np.float32(0.5) * x * np.float64(1.5),
    "sizes of NumPy": lambda x: x.reshape(np.int64(-1), 4, np.int64(36)),
}


class Stored(nn.Module):
    """Chooses channels by a buffer, in two spellings, and by an array that is an attribute."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mask", torch.from_numpy(MASK))
        self.order = np.array([2, 0, 1])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[:, self.mask] + x[:, self.mask.nonzero().squeeze(1)][:, self.order]


def _agrees(part: nn.Module, folder) -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 1), part)
    all_forms_agree(net, X, folder, noise=0.2, steps=2.01, qconfig="horizon_qat")


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions(name, tmp_path) -> None:
    _agrees(Op(FUNCTIONS[name]), tmp_path)


def test_buffers_and_attributes(tmp_path) -> None:
    _agrees(Stored(), tmp_path)
