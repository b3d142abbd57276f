"""Item assignment: float, fake-quant, integers and ONNX agree."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from qatspec.api import DiagnosticError, prepare
from tests.layers import Op
from tests.unit.prepare.test_elementwise import X, becomes_tables, net_of


def assigning(*steps):
    def function(x):
        for step in steps:
            step(x)
        return x

    return function


def put(places, values):
    return lambda x: x.__setitem__(places, values(x) if callable(values) else values)


def test_cases_are_torch() -> None:
    x = torch.ones(2, 4, 6, 6)
    assigning(put((slice(None), 0), 0))(x)
    assert x[:, 0].sum() == 0 and x.sum() == 2 * 3 * 36


s = slice
EVERY = s(None)
CASES = {
    "a channel to 0": put((EVERY, 0), 0),
    "a channel to a number": put((EVERY, -1), 0.5),
    "the last row": put((..., -1, EVERY), 0.25),
    "a border": lambda x: (put((..., s(0, 1)), 0.0)(x), put((..., s(-1, None)), 0.0)(x)),
    "a window": put((EVERY, s(1, 3), s(2, 4), s(2, None)), -0.5),
    "every other column": put((EVERY, EVERY, EVERY, s(None, None, 2)), 0.0),
    "every other column and row": put((EVERY, EVERY, s(1, None, 2), s(None, None, 3)), 0.125),
    "a tensor": put((EVERY, s(0, 2)), lambda x: x[:, 2:4].relu()),
    "a tensor of a channel": put((EVERY, 1), lambda x: x[:, 3]),
    "a tensor that is spread": put((EVERY, s(1, 3)), lambda x: x[:, :1].relu()),
    "a tensor at every other column": put((..., s(1, None, 2)), lambda x: x[..., ::2].relu()),
    "listed channels": put((EVERY, [3, 1]), 0.25),
    "channels of an array": put((EVERY, np.array([3, -4])), lambda x: x[:, 1:3].relu()),
    "columns of a mask": put((..., np.arange(6) % 3 == 1), 0.0),
    "all": put(..., lambda x: x.relu()),
    "where a condition holds": lambda x: x.__setitem__(x < -0.25, 0.0),
}


def added(x):
    x[:, 1:3] += x[:, :1].relu()
    return x


def scaled(x):
    x[..., 1:3] *= 0.5
    x[:, 0] -= 0.25
    return x


def swapped(x):
    y = torch.zeros_like(x)
    y[:, :2] = x[:, 2:]
    y[:, 2:] = x[:, :2]
    return y + x


def copied(x):
    y = x.clone()
    y[:, 0] = 0
    return x + y


def filled(x):
    y = torch.empty_like(x)
    for i in range(4):
        y[:, i] = x[:, (i + 1) % 4]
    return y


def shifted(x):
    """Temporal shift (Lin et al. 2019)."""
    y = torch.zeros_like(x)
    y[:, 0:1, :-1] = x[:, 0:1, 1:]
    y[:, 1:2, 1:] = x[:, 1:2, :-1]
    y[:, 2:] = x[:, 2:]
    return y


FUNCTIONS = {
    "filled": filled,
    "shifted": shifted,
    "added": added,
    "scaled": scaled,
    "swapped": swapped,
    "copied": copied,
}


@pytest.mark.parametrize("name", CASES)
def test_places(name, tmp_path) -> None:
    becomes_tables(net_of(Op(assigning(CASES[name]))), tmp_path, tables=0)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions(name, tmp_path) -> None:
    becomes_tables(net_of(Op(FUNCTIONS[name])), tmp_path, tables=0)


def test_a_view_that_is_read_later_is_refused() -> None:
    def shared(x):
        y = x[:, :1]
        x[:, 0] = 0
        return x + y

    with pytest.raises(DiagnosticError) as error:
        prepare(net_of(Op(shared)), (X,), qconfig="horizon_qat")
    assert error.value.diagnostics[0].code == "QS502"


def test_a_mask_of_fewer_dims_is_for_the_first() -> None:
    class Masks(torch.nn.Module):
        def forward(self, x):
            y = x.clone()
            y[x.mean((2, 3)) < 0.0] = 0.0  # (2, 3), as the last two dims are
            return y

    x = torch.randn(2, 3, 2, 3, generator=torch.Generator().manual_seed(0))
    prepared = prepare(Masks(), (x,), qconfig="horizon_qat")
    assert torch.equal(prepared.model(x), Masks()(x))
