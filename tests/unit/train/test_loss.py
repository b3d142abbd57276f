from __future__ import annotations

import functools

import pytest
import torch

from qatspec.diag import DiagnosticError
from qatspec.train.loop import fit
from qatspec.train.loss import demand_compiler


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
