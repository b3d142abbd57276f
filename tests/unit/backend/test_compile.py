"""compile(): options and names."""

import pytest

from qatspec.api import compile as compile_program
from qatspec.backend.compile import _filled
from qatspec.diag import DiagnosticError

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
