"""Recurrent layers run in float behind the Program, as torch computes them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from qatspec.diag import DiagnosticError
from qatspec.export import export_qat_onnx
from qatspec.export.host import HostRunner, export_host
from qatspec.graph.deploy import deploy
from qatspec.lower import lower
from qatspec.lower.split import host_parts
from qatspec.prepare import prepare, set_stage

X = torch.randn(2, 3, 5, 6, generator=torch.Generator().manual_seed(0))


class Net(nn.Module):
    """A convolution, and a recurrent layer over the rows of its result."""

    def __init__(self, layer: nn.Module, step: Callable[[nn.Module, Tensor], Any]) -> None:
        super().__init__()
        self.conv, self.layer, self.step = nn.Conv2d(3, 4, 1), layer, step

    def forward(self, x: Tensor) -> Any:
        return self.step(self.layer, self.conv(x).mean(1))


def states_given(layer: nn.Module, x: Tensor) -> Any:
    _, first = layer(x)
    return layer(x, first)


def cells(layer: nn.Module, x: Tensor) -> Any:
    state = layer(x[:, 0])
    return layer(x[:, 1], state)


LAYERS: dict[str, tuple[Callable[[], nn.Module], Callable[[nn.Module, Tensor], Any]]] = {
    "lstm": (lambda: nn.LSTM(6, 4, batch_first=True), lambda m, x: m(x)),
    "lstm in both directions": (
        lambda: nn.LSTM(6, 4, 2, bidirectional=True, batch_first=True),
        lambda m, x: m(x)[0],
    ),
    "lstm, its states": (lambda: nn.LSTM(6, 4, 2, batch_first=True), states_given),
    "lstm, steps first": (lambda: nn.LSTM(6, 4), lambda m, x: m(x.transpose(0, 1))[1][0][-1]),
    "gru": (lambda: nn.GRU(6, 4, batch_first=True, bias=False), lambda m, x: m(x)),
    "gru, its states": (
        lambda: nn.GRU(6, 4, 2, bidirectional=True, batch_first=True),
        states_given,
    ),
    "rnn": (lambda: nn.RNN(6, 4, batch_first=True), lambda m, x: m(x)[1]),
    "rnn with relu": (lambda: nn.RNN(6, 4, 2, "relu", batch_first=True), lambda m, x: m(x)),
    "lstm cell": (lambda: nn.LSTMCell(6, 4), cells),
    "gru cell": (lambda: nn.GRUCell(6, 4), cells),
    "rnn cell": (lambda: nn.RNNCell(6, 4), cells),
}


@pytest.mark.parametrize("name", LAYERS)
@torch.no_grad()
def test_it_runs_on_the_host_as_in_torch(name: str, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    torch.manual_seed(0)
    build, step = LAYERS[name]
    net = Net(build(), step).eval()
    prepared = prepare(net, (X,), qconfig="horizon_qat", modules={"conv": {}})
    prepared.model(X)
    set_stage(prepared, "eval")
    deployment = deploy(prepared, (X,))
    program = lower(prepared, (X,), deployment=deployment)
    export_host(prepared, host_parts(deployment), tmp_path, "net")
    export_qat_onnx(prepared, tmp_path / "qat.onnx")
    runner = HostRunner.load(tmp_path, "net")
    x = torch.cat([X, X.flip(0), X[:1]])  # another batch
    outputs = program.dequantize(program.run(*program.quantize(x.numpy())))
    _, flat = runner.behind(program.tree, outputs)
    expected = pytree.tree_leaves(prepared.model(x))
    assert len(flat) == len(expected)
    for got, want in zip(flat, expected, strict=True):
        np.testing.assert_allclose(got, want.numpy(), atol=0.02)  # a step of the convolution
        assert np.abs(got).max() > 0.02


def test_what_onnx_cannot_do_is_refused(tmp_path: Path) -> None:
    net = Net(nn.LSTM(6, 4, proj_size=2, batch_first=True), lambda m, x: m(x)[0]).eval()
    prepared = prepare(net, (X,), qconfig="horizon_qat", modules={"conv": {}})
    prepared.model(X)
    set_stage(prepared, "eval")
    with pytest.raises(DiagnosticError, match="with a projection") as caught:
        export_host(prepared, host_parts(deploy(prepared, (X,))), tmp_path, "net")
    (found,) = caught.value.diagnostics
    assert found.code == "QS724" and found.span is not None and found.span.file == __file__
