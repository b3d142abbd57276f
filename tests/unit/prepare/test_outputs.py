"""Outputs that are no tensors are told in prepare, and the way out works."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from qatspec.diag import DiagnosticError
from qatspec.export import export_qat_onnx
from qatspec.lower import lower
from qatspec.prepare import prepare, set_stage
from tests.layers import Op
from tests.unit.export.test_qdq import run

X = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


class Net(nn.Module):
    def __init__(self, give: Callable[[Net, Tensor, Tensor], Any]) -> None:
        super().__init__()
        self.conv, self.give = nn.Conv2d(3, 4, 3), give
        self.scale = nn.Parameter(torch.ones(3))

    def forward(self, x: Tensor) -> Any:
        return self.give(self, x, self.conv(x))


#: what forward returns -> what the warnings say
OUTPUTS: dict[str, tuple[Callable[[Any, Tensor, Tensor], Any], list[str]]] = {
    "tensors": (lambda net, x, y: {"a": y, "b": [y.relu(), y + 1]}, []),
    "none": (lambda net, x, y: {"a": y, "b": None}, ["returns the constant None at ['b']"]),
    "none in a tuple": (lambda net, x, y: (y, None), ["constant None at [1]"]),
    "a number": (lambda net, x, y: (y, 0.5), ["constant 0.5 at [1]"]),
    "a flag": (lambda net, x, y: {"y": y, "aux": False}, ["constant False at ['aux']"]),
    "a text": (lambda net, x, y: {"y": y, "kind": "boxes"}, ["constant 'boxes' at ['kind']"]),
    "sizes": (lambda net, x, y: (y, (y.shape[2], y.shape[3])), ["at [1][0]", "at [1][1]"]),
    "a shape": (lambda net, x, y: {"y": y, "size": x.shape[2:]}, ["at ['size']"]),
    "the batch": (lambda net, x, y: (y, x.shape[0]), ["returns a size at [1]"]),
    "a parameter": (lambda net, x, y: (y, net.scale), ["parameter or buffer `scale` at [1]"]),
}  # fmt: skip


def _prepared(give: Callable[[Any, Tensor, Tensor], Any]):
    prepared = prepare(Net(give), (X,), qconfig="horizon_qat", quantize_output=True)
    prepared.model(X)
    set_stage(prepared, "eval")
    return prepared


@pytest.mark.parametrize("kind", OUTPUTS)
def test_told_in_prepare_what_convert_refuses(kind: str) -> None:
    give, words = OUTPUTS[kind]
    prepared = _prepared(give)
    found = [w for w in prepared.warnings if w.code == "QS514"]
    assert len(found) >= len(words)
    for text in words:
        assert any(text in w.message for w in found), found
    if not words:
        lower(prepared, (X,))
        return
    with pytest.raises(DiagnosticError) as caught:
        lower(prepared, (X,))
    refused = caught.value.diagnostics[0]
    assert refused.code == "QS703" and "conv" not in refused.message


def test_the_fake_quant_model_returns_what_the_float_model_does() -> None:
    prepared = _prepared(lambda net, x, y: {"y": y, "none": None, "kind": "a", "size": x.shape[2:]})
    found = prepared.model(X)
    assert (found["none"], found["kind"], tuple(found["size"])) == (None, "a", (8, 8))


SEVERAL = {
    "chunk": lambda x: x.chunk(2, 1),
    "split": lambda x: torch.split(x, [1, 3], 1),
    "unbind": lambda x: x.unbind(1),
    "in a dict": lambda x: {"parts": x.chunk(2, 1), "all": x},
    "in a list": lambda x: [x, x.split(1, 1)],
    "max": lambda x: x.max(1),
}


@pytest.mark.parametrize("name", SEVERAL)
def test_several_tensors_of_one_op_are_returned_as_they_are(name, tmp_path) -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 1), Op(SEVERAL[name])).eval()
    x = torch.randn(2, 3, 4, 4)
    prepared = prepare(net, (x,), qconfig="horizon_qat", quantize_output=True)
    expected = pytree.tree_flatten(net(x))
    assert pytree.tree_structure(prepared.model(x)) == expected[1]
    set_stage(prepared, "qat")
    set_stage(prepared, "eval")
    fake = [y.detach().numpy() for y in pytree.tree_leaves(prepared.model(x))]
    program = lower(prepared, (x,))
    real = program.dequantize(program.run(*program.quantize(x.numpy())))
    order = pytree.tree_leaves(program.tree)
    export_qat_onnx(prepared, tmp_path / "q.onnx", (x,))
    written = run(tmp_path / "q.onnx", x)
    for i, y in zip(order, fake, strict=True):
        step = 2e-2 if y.dtype == np.float32 else 0
        assert abs(real[i] - y).max() <= step
        assert abs(written[i] - y).max() <= step
