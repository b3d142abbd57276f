"""compile(): options and names."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from qatspec.api import (
    March,
    Verdict,
    compile as compile_program,
    hookimpl,
    lower,
    prepare,
    set_stage,
)
from qatspec.backend.compile import _filled
from qatspec.diag import DiagnosticError, PluginFault
from qatspec.registry import Plugin, registry

SCHEMA = {
    "type": "object",
    "additionalProperties": False,
    "properties": {"opt": {"enum": ["O0", "O2"], "default": "O2", "description": "effort"}},
}


def test_defaults_are_filled_in():
    assert _filled("m", SCHEMA, {}) == {"opt": "O2"}
    assert _filled("m", SCHEMA, {"opt": "O0"}) == {"opt": "O0"}


@pytest.mark.parametrize("options", [{"opt": "O9"}, {"level": 3}, {"opt": 1, "x": 2}])
def test_wrong_options(options):
    with pytest.raises(DiagnosticError) as caught:
        _filled("m", SCHEMA, options)
    assert {d.code for d in caught.value.diagnostics} == {"QS803"}
    for diagnostic in caught.value.diagnostics:
        assert diagnostic.message.startswith("compile options of m: ")
        assert "O2" in diagnostic.help or "opt" in diagnostic.help


def test_an_unknown_march_is_the_registrys_error(small):
    with pytest.raises(DiagnosticError) as caught:
        compile_program(small, "bayess")
    assert caught.value.diagnostics[0].code == "QS301"


def test_a_compiler_that_returns_no_artifact_is_the_plugins_error(small):
    march = March(
        name="empty", summary="s", version=1, run=print,
        supports=lambda op, program: Verdict(True), compile=lambda program, options: None,
    )  # fmt: skip

    @hookimpl
    def qatspec_marches():
        return [march]

    module = SimpleNamespace(qatspec_marches=qatspec_marches)
    with registry().added(Plugin("empty", "empty", "1", module)), pytest.raises(PluginFault) as got:
        compile_program(small, "empty")
    assert "it returns a NoneType, not an Artifact" in str(got.value)


def test_one_number_for_each_image():
    """A distance of two vectors: its value has no dims beside the batch."""
    x = torch.randn(3, 6, generator=torch.Generator().manual_seed(0))
    prepared = prepare(_Distance(), (x,), qconfig="horizon_qat", march="bayes")
    prepared.model(x)
    set_stage(prepared, "eval")
    program = lower(prepared, (x,))
    assert [port.shape for port in program.outputs] == [()]
    ints = program.quantize(x.numpy())
    (made,), (wanted,) = compile_program(program, "bayes").run(*ints), program.run(*ints)
    assert np.array_equal(made, wanted)


class _Distance(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = torch.nn.Linear(6, 4), torch.nn.Linear(6, 4)

    def forward(self, x):
        return (self.a(x) - self.b(x)).pow(2).sum(1).add(1e-3).sqrt()
