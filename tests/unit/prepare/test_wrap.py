"""`wrap`: a function is recorded as one call, however and wherever the model's code calls it."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest
import torch

from qatspec.prepare import prepare, set_stage

STEPS = """
def decide(x):
    return x / 2 if x.max() > 1 else x


def helper(x):
    return decide(x) + 1
"""
NET = """
from torch import nn

import {steps} as steps
from {steps} import decide, helper


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1)

    def forward(self, x):
        return self.b({call}(self.a(x)))
"""
X = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("call", ["decide", "steps.decide", "helper", "steps.helper"])
@pytest.mark.parametrize("name", ["decide", "{steps}.decide"])
def test_every_way_to_call_it(
    call: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps, net = (f"{kind}_{abs(hash((call, name)))}" for kind in ("steps", "net"))
    (tmp_path / f"{steps}.py").write_text(STEPS)
    (tmp_path / f"{net}.py").write_text(NET.format(steps=steps, call=call))
    monkeypatch.syspath_prepend(str(tmp_path))
    model = importlib.import_module(net).Net().eval()
    config = {"wrap": [name.format(steps=steps)]}
    prepared = prepare(model, (X,), qconfig="horizon_qat", prepare=config)
    function = sys.modules[steps].decide
    assert any(node.target is function for node in prepared.model.graph.nodes)
    assert sys.modules[net].decide is function, "the model's files are as they were"
    with torch.no_grad():
        torch.testing.assert_close(prepared.model(9 * X), model(9 * X))
    set_stage(prepared, "qat")
    prepared.model(X).sum().backward()
