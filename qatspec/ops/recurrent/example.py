"""Examples of the ops."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from qatspec.ops.examples import module
from qatspec.types import Example


class _Rows(nn.Module):
    """A layer that reads the rows of the first channel."""

    def __init__(self, build: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.layer = build()
        generator = torch.Generator().manual_seed(0)
        for parameter in self.layer.parameters():
            parameter.data.uniform_(-0.5, 0.5, generator=generator)

    def forward(self, x: Tensor) -> Any:
        rows = x[:, 0]
        if not isinstance(self.layer, nn.RNNCellBase):
            return self.layer(rows)[0]
        state = self.layer(rows[:, 1], self.layer(rows[:, 0]))
        return state[0] if isinstance(self.layer, nn.LSTMCell) else state


def examples() -> tuple[Example, ...]:
    """Layers in both directions with the batch first, and cells in two steps."""
    both = {"num_layers": 2, "bidirectional": True, "batch_first": True}
    layers: dict[str, Callable[[], nn.Module]] = {
        "rnn": partial(nn.RNN, 8, 6, nonlinearity="relu", batch_first=True),
        "lstm": partial(nn.LSTM, 8, 6, **both),
        "gru": partial(nn.GRU, 8, 6, **both),
        "rnn_cell": partial(nn.RNNCell, 8, 6),
        "lstm_cell": partial(nn.LSTMCell, 8, 6),
        "gru_cell": partial(nn.GRUCell, 8, 6, bias=False),
    }
    return tuple(module(op, partial(_Rows, build)) for op, build in layers.items())
