"""Evaluation code that cannot be traced: the function or method around it is one call, and the
network before it becomes integers."""

from __future__ import annotations

import copy
import importlib
import itertools
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils import _pytree as pytree

from qatspec.api import DiagnosticError, export_qat_onnx, lower, prepare, set_stage
from qatspec.export.host import export_host
from qatspec.graph.deploy import deploy
from qatspec.lower.split import host_parts

X = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
#: steps of evaluation that torch.fx cannot record
STEPS = {
    "a loop over results": """
    kept = []
    for boxes in y.flatten(2).permute(0, 2, 1):
        order = boxes[:, 0].argsort(descending=True)[:4].tolist()
        kept.append(boxes[[i for i in order if boxes[i, 1] > -9]])
    return kept""",
    "a condition": """
    return y * 0.5 if y.max() > 0 else y""",
    "NumPy": """
    return torch.from_numpy(np.sort(np.asarray(y.detach()), axis=1)) * float(y.std())""",
    "a number": """
    return y[:, : int(y.shape[1] * min(float(y.sigmoid().mean()), 0.9)) + 1]""",
    "rows by a mask": """
    return [rows[rows[:, 0] > rows.mean()] for rows in list(y.flatten(2).permute(0, 2, 1))]""",
}
FILE = """
import numpy as np
import torch
from torch import nn


def step(y):{step}


def outer(y):
    return {{"found": step(y)}}


class Step(nn.Module):
    def forward(self, y):
        return step(y)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 1)
        self.part, self.gain = Step(), 0.5

    @staticmethod
    def static(y, gain=1.0):
        return step(y * gain)

    @torch.no_grad()
    def method(self, y, gain):
        return step(y * (gain * self.gain))

    def network(self, x):
        return self.b(torch.relu(self.a(x)))

    def inference(self, x):
        return self.method(self.network(x), gain=0.5)

    def forward(self, x):
        y = None if {again} and not self.training else self.network(x)
        if self.training:
            return y
        {end}
"""
ENDS = {
    "the function": "return step(y)",
    "behind a traceable step": "return step(y.sigmoid() * 2)",
    "inside another function": "return outer(y)",
    "two of them": "return step(y), outer(y + 1)",
    "a module": "return self.part(y)",
    "a method": "return self.method(y, gain=2.0)",
    "a static method": "return self.static(y, gain=0.5), Net.static(y)",
    "a method that runs the network too": "return self.inference(x)",
}
_numbers = itertools.count()


def written(source: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> nn.Module:
    name = f"untraceable_{next(_numbers)}"
    (folder / f"{name}.py").write_text(source)
    monkeypatch.syspath_prepend(str(folder))
    torch.manual_seed(0)
    net: nn.Module = importlib.import_module(name).Net().eval()
    return net


def refused(net: nn.Module, **settings: Any) -> DiagnosticError:
    with pytest.raises(DiagnosticError) as caught:
        prepare(net, (X,), qconfig="horizon_qat", **settings)
    return caught.value


def source_of(step: str, end: str) -> str:
    return FILE.format(step=step, end=end, again="inference" in end)


@pytest.mark.parametrize(
    ("step", "end"),
    [(STEPS["a loop over results"], end) for end in ENDS.values()]
    + [(step, ENDS["behind a traceable step"]) for step in list(STEPS.values())[1:]],
    ids=[*ENDS, *list(STEPS)[1:]],
)
def test_the_network_before_it_becomes_integers(step, end, tmp_path, monkeypatch):
    net = written(source_of(step, end), tmp_path, monkeypatch)
    keys, expected = list(net.state_dict()), net(X)
    prepared = prepare(net, (X,), qconfig="horizon_qat", quantize_output=True)
    assert "QS517" in {w.code for w in prepared.warnings}
    assert set(keys) <= set(prepared.model.state_dict())
    prepared.model(X)
    set_stage(prepared, "qat")
    prepared.model(X).sum().backward()
    set_stage(prepared, "eval")
    result = prepared.model(X)
    assert pytree.tree_structure(result) == pytree.tree_structure(expected)
    program = lower(prepared, (X,))
    assert [port.shape for port in program.outputs] == [(4, 8, 8)]
    export_qat_onnx(prepared, tmp_path / "q.onnx", (X,))


@pytest.mark.parametrize("again", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_a_method_is_that_of_the_copy(again, tmp_path, monkeypatch):
    net = written(source_of(STEPS["NumPy"], ENDS["a method"]), tmp_path, monkeypatch)
    prepared = prepare(net, (X,), qconfig="horizon_qat", quantize_output=True)
    prepared.model(X)
    set_stage(prepared, "eval")
    other = again(prepared.model)
    torch.testing.assert_close(other(X), prepared.model(X))
    other.gain = 0.0
    assert not other(X).any() and prepared.model(X).any()
    assert not vars(net).get("method"), "the float model is as it was"


def test_a_step_that_decides_has_no_onnx_form(tmp_path, monkeypatch):
    net = written(source_of(STEPS["a condition"], ENDS["a method"]), tmp_path, monkeypatch)
    prepared = prepare(net, (X,), qconfig="horizon_qat", quantize_output=True)
    prepared.model(X)
    set_stage(prepared, "eval")
    host = host_parts(deploy(prepared, (X,)))
    with pytest.raises(DiagnosticError) as caught:
        export_host(prepared, host, tmp_path, "net")
    (problem,) = caught.value.diagnostics
    assert problem.code == "QS724" and "`predict`" in str(problem.help)


def test_a_step_in_forward_itself_is_put_into_a_function_first(tmp_path, monkeypatch):
    net = written(source_of(" pass", "return y if y.mean() > 0 else -y"), tmp_path, monkeypatch)
    error = refused(net)
    assert all("a method or function that training does" in str(d.help) for d in error.diagnostics)


def test_what_training_runs_too_is_not_evaluation_alone(tmp_path, monkeypatch):
    source = source_of(STEPS["a condition"], "return y")
    source = source.replace("self.b(torch.relu(self.a(x)))", "self.b(step(self.a(x)))")
    error = refused(written(source, tmp_path, monkeypatch))
    assert not any("evaluation alone" in str(d.help) for d in error.diagnostics)


def test_the_class_to_keep_in_float_is_that_whose_forward_has_the_step():
    class Images(nn.Module):
        def forward(self, x):
            return torch.stack([image * 2 for image in x])

    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), Images())
    (found,) = refused(net.eval()).diagnostics
    assert "Images" in found.help and "ReLU" not in found.help
