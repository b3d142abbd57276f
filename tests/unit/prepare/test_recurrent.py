"""Layers without an integer form: prepared around, and refused by name when lowered."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from qatspec.diag import DiagnosticError
from qatspec.lower import lower
from qatspec.prepare import prepare, set_stage

X = torch.randn(2, 7, 6, generator=torch.Generator().manual_seed(0))


class Net(nn.Module):
    def __init__(self, layer: nn.Module, step: Callable[[Net, Tensor], Any]) -> None:
        super().__init__()
        self.g, self.l, self.step = layer, nn.Linear(6, 3), step
        self.pos = nn.Parameter(torch.randn(1, 7, 6))

    def forward(self, x: Tensor) -> Any:
        return self.step(self, x)


def _states(m: Net, x: Tensor) -> Any:
    o, (h, c) = m.g(x)
    return m.l(h[-1]), m.l(c[-1] + 1), m.l(o)


def _cell(m: Net, x: Tensor) -> Any:
    state = None
    for t in range(3):
        state = m.g(x[:, t], state)
    return m.l(state[0] if isinstance(state, tuple) else state)


def _lstm(**settings: Any) -> nn.Module:
    return nn.LSTM(6, 6, batch_first=True, **settings)


CASES: dict[str, Callable[[], Net]] = {
    "states": lambda: Net(_lstm(), _states),
    "states of two layers": lambda: Net(_lstm(num_layers=2), _states),
    "the hidden state": lambda: Net(_lstm(), lambda m, x: m.l(m.g(x)[1][0][-1])),
    "states passed on": lambda: Net(
        _lstm(), lambda m, x: m.l(m.g(x, tuple(s * 0.5 for s in m.g(x)[1]))[0])
    ),
    "everything returned": lambda: Net(_lstm(), lambda m, x: m.g(x)),
    "gru": lambda: Net(nn.GRU(6, 6), lambda m, x: m.l(m.g(x)[1])),
    "lstm cell": lambda: Net(nn.LSTMCell(6, 6), _cell),
    "gru cell": lambda: Net(nn.GRUCell(6, 6), _cell),
    "constant + result": lambda: Net(nn.GRU(6, 6), lambda m, x: m.pos + m.g(x)[0]),
    "result + constant": lambda: Net(nn.GRU(6, 6), lambda m, x: m.g(x)[0] + m.pos),
    "constant * result": lambda: Net(nn.GRU(6, 6), lambda m, x: m.pos * m.g(x)[0]),
    "constant - topk": lambda: Net(nn.Identity(), lambda m, x: m.pos - torch.topk(x, 6, -1)[0]),
    "cat": lambda: Net(nn.GRU(6, 6), lambda m, x: torch.cat([m.pos + m.g(x)[0], x])),
    "maximum": lambda: Net(nn.GRU(6, 6), lambda m, x: torch.maximum(m.pos, m.g(x)[0])),
    "matmul": lambda: Net(nn.GRU(6, 6), lambda m, x: m.pos @ m.g(x)[0].transpose(1, 2)),
}


@pytest.mark.parametrize("case", CASES)
def test_what_has_no_integer_form_is_named(case: str) -> None:
    torch.manual_seed(0)
    model = CASES[case]().eval()
    prepared = prepare(model, (X,), qconfig="horizon_qat")
    assert any(w.code == "QS608" for w in prepared.warnings)
    with torch.no_grad():
        pairs = zip(
            pytree.tree_leaves(model(X)), pytree.tree_leaves(prepared.model(X)), strict=True
        )
        for expected, calibrated in pairs:
            torch.testing.assert_close(calibrated, expected)
    set_stage(prepared, "qat")
    sum(t.sum() for t in pytree.tree_leaves(prepared.model(X))).backward()
    set_stage(prepared, "eval")
    with pytest.raises(DiagnosticError) as caught:
        lower(prepared, (X,))
    names = ("GRU", "LSTM", "LSTMCell", "GRUCell", "topk")
    codes = {d.code for d in caught.value.diagnostics}
    assert "QS701" in codes and any(name in str(caught.value) for name in names)
    assert codes <= {"QS701", "QS706"}


def test_a_constant_before_any_quantized_input_is_named() -> None:
    model = Net(nn.Identity(), lambda m, x: (m.pos + x).relu())
    prepared = prepare(model, (X,), qconfig="horizon_qat", quantize_input=False)
    prepared.model(X)
    set_stage(prepared, "eval")
    with pytest.raises(DiagnosticError) as caught:
        lower(prepared, (X,))
    assert {d.code for d in caught.value.diagnostics} == {"QS706"}
