"""An example of the op."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from qatspec.ops.examples import module
from qatspec.types import Example


class _Rows(nn.Module):
    """The rows of a table that the places of maxima name."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(8, 3)
        rows = torch.arange(24.0).sin().reshape(8, 3)
        self.table.load_state_dict({"weight": rows})

    def forward(self, x: Tensor) -> Tensor:
        rows: Tensor = self.table(x.argmax(3))
        return rows


def examples() -> tuple[Example, ...]:
    return (module("embedding", _Rows),)
