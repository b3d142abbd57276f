from __future__ import annotations

import functools
import sys

import pytest
import torch

from qatspec.diag import DiagnosticError, PluginFault
from qatspec.registry import registry
from qatspec.train.loop import fit
from qatspec.train.loss import ForwardMode, Loss, demand_compiler


@pytest.fixture
def compile_with(monkeypatch):
    torch._dynamo.reset()
    return lambda backend: monkeypatch.setattr(
        torch, "compile", functools.partial(torch.compile, backend=backend)
    )


def fails(graph, inputs):
    raise RuntimeError("no C++ compiler")


def test_a_compiled_training_is_the_same_training(make_training, last, compile_with):
    compile_with("aot_eager")
    results = []
    for compiled in (False, True):
        training = make_training(f"compiled {compiled}", compile=compiled)
        fit(training)
        results.append(dict(last(training).state_dict))
    torch.testing.assert_close(*results)


def test_a_model_that_cannot_be_compiled(make_training, compile_with):
    compile_with(fails)
    training = make_training(compile=True, at="/stages/float/trainer")
    with pytest.raises(DiagnosticError, match="no C\\+\\+ compiler") as caught:
        fit(training)
    (diagnostic,) = caught.value.diagnostics
    assert (diagnostic.code, diagnostic.at) == ("QS963", "/stages/float/trainer/compile")


def test_a_missing_compiler_is_known_before_training(compile_with):
    compile_with(fails)
    with pytest.raises(DiagnosticError, match=r"fails: backend=.* RuntimeError: no C"):
        demand_compiler(torch.device("cpu"), "/stages/qat/trainer")


class OfTorchAlone(torch.nn.Sequential):
    """A model whose error passes through none of its code."""

    def loss(self, outputs, targets):
        return {"loss": outputs.sum()}


@pytest.mark.parametrize("compiled", [False, True])
def test_a_failing_layer_is_the_models_fault_compiled_or_not(compiled, compile_with, monkeypatch):
    compile_with("aot_eager")
    plugin = next(iter(registry().plugins()))
    module = sys.modules["qatspec.registry.registry"]  # as if a plugin defined the class
    monkeypatch.setattr(module, "provider_of", lambda plugins, owner: plugin)
    model = OfTorchAlone(torch.nn.Linear(4, 2), torch.nn.Linear(3, 2))
    loss = Loss(model, ForwardMode(compiled=compiled, at="/stages/float/trainer"))
    with pytest.raises(PluginFault, match=r"forward\(\) of `OfTorchAlone`"):
        loss((torch.zeros(1, 4),), [])
