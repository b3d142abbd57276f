"""Plugins of an earlier API version: each use of a renamed name is listed with its new name."""

from __future__ import annotations

import importlib
import sys
from types import SimpleNamespace

import pytest

import qatspec.api
from qatspec.diag import DiagnosticError
from qatspec.registry import Registry, renames
from qatspec.registry.plugins import load_entry_point
from qatspec.types import QuantHandler

#: Rows for this test alone, so that it does not follow the table's.
TABLE = {
    1: {
        "OldRecord": "ModelDef",
        "Lowering.old_method": "Lowering.emit",
        "Span.old_field": "Span.line",
    }
}
HOOK = """
from qatspec.api import NO_PARAMS, ModelDef, hookimpl

@hookimpl
def qatspec_models():
    return [ModelDef(name="old_net", summary="s", params=NO_PARAMS, build=build)]
"""
PLAIN = "def build(params):\n    return None\n"
#: Other objects have members and arguments of the same names.
OTHERS = "def build(params):\n    return params.old_method(old_field=1), OldRecord\n"
METHOD = "def build(lowering):\n    return lowering.old_method(1)\n"
ANNOTATED = "def build(low: 'Lowering'):\n    return low.old_method(1)\n"
QUALIFIED = "import qatspec.api as api\nbuild = lambda low: api.OldRecord\n"
KEYWORD = "def build(params):\n    return Span(old_field=1)\n"
IMPORT = "from qatspec.api import OldRecord\ndef build(params):\n    return None\n"


@pytest.fixture(autouse=True)
def table(monkeypatch):
    monkeypatch.setattr(renames, "RENAMED", TABLE)
    monkeypatch.setattr("qatspec.registry.messages.RENAMED", TABLE)


@pytest.fixture
def install(tmp_path, monkeypatch):
    """install(source): a registry with a plugin that consists of one module."""
    monkeypatch.syspath_prepend(tmp_path)

    def add(source: str) -> Registry:
        (tmp_path / "renames_plugin.py").write_text(source)
        sys.modules.pop("renames_plugin", None)
        importlib.invalidate_caches()
        entry = SimpleNamespace(
            name="old",
            module="renames_plugin",
            dist=SimpleNamespace(name="old-dist", version="0.3"),
            load=lambda: importlib.import_module("renames_plugin"),
        )
        return Registry([load_entry_point(entry)])

    yield add
    sys.modules.pop("renames_plugin", None)


@pytest.mark.parametrize(
    ("source", "old", "new", "line"),
    [
        (METHOD, "Lowering.old_method", "Lowering.emit", 2),
        (ANNOTATED, "Lowering.old_method", "Lowering.emit", 2),
        (QUALIFIED, "OldRecord", "ModelDef", 2),
        (KEYWORD, "Span.old_field", "Span.line", 2),
    ],
)
def test_a_plugin_of_version_1_that_uses_an_old_name(install, source, old, new, line):
    (fault,) = install(f"{source}qatspec_api = 1\n{HOOK}").faults()
    assert (fault.code, fault.severity) == ("QS009", "warning")
    assert fault.origin == "old (old-dist==0.3)"
    assert "is written for plugin API 1" in fault.message
    use, every = fault.notes
    assert use.text == f"`{old}` is now `{new}`"
    assert use.span.line == line
    for name, replacement in TABLE[1].items():
        assert f"`{name}` -> `{replacement}`" in every.text


def test_the_help_works_when_followed(install):
    (fault,) = install(f"{METHOD}qatspec_api = 1\n{HOOK}").faults()
    assert f"`qatspec_api = {qatspec.api.API_VERSION}`" in fault.help
    fixed = f"{METHOD.replace('old_method', 'emit')}qatspec_api = {qatspec.api.API_VERSION}\n{HOOK}"
    found = install(fixed)
    assert found.faults() == ()
    assert found.model("old_net").name == "old_net"


@pytest.mark.parametrize("stated", ["qatspec_api = 1\n", ""])
@pytest.mark.parametrize("source", [PLAIN, OTHERS])
def test_a_plugin_that_uses_no_old_name_is_taken(install, source, stated):
    found = install(f"{source}{stated}{HOOK}")
    assert found.faults() == ()
    assert found.model("old_net").name == "old_net"


@pytest.mark.parametrize("stated", ["qatspec_api = 1\n", ""])
def test_an_old_name_that_is_imported(install, stated):
    found = install(f"{stated}{IMPORT}{HOOK}")
    (fault,) = found.faults()
    assert fault.code == "QS009"
    assert "cannot import name 'OldRecord'" in fault.message
    assert fault.notes[0].text == "`OldRecord` is now `ModelDef`"
    assert fault.notes[0].span.line == (2 if stated else 1)
    with pytest.raises(DiagnosticError) as error:
        found.model("old_net")
    (shown,) = error.value.diagnostics
    assert shown.code == "QS009"
    assert "`OldRecord` is now `ModelDef`" in [note.text for note in shown.notes]


def test_an_old_name_that_a_file_plugin_imports(tmp_path):
    (tmp_path / "mine.py").write_text(f"{IMPORT}{HOOK}")
    with pytest.raises(DiagnosticError) as error:
        Registry([]).include(tmp_path / "mine.py", "/plugins/0")
    (fault,) = error.value.diagnostics
    assert (fault.code, fault.severity, fault.at) == ("QS009", "error", "/plugins/0")
    assert fault.notes[0].text == "`OldRecord` is now `ModelDef`"


def test_an_old_name_that_is_read_later(install):
    source = METHOD.replace("lowering.old_method", "Lowering().old_method")
    found = install(f"class Lowering:\n    pass\n{source}{HOOK}")
    definition = found.model("old_net")
    with (
        pytest.raises(Exception, match="old_method") as caught,
        found.attribute_errors(definition, "building"),
    ):
        definition.build({})
    assert caught.value.help == (
        f"`Lowering.old_method` is called `Lowering.emit` in version {qatspec.api.API_VERSION} of "
        "the plugin API"
    )


def test_an_old_argument_of_a_record(install, monkeypatch):
    monkeypatch.setitem(TABLE[1], "ModelDef.old_field", "ModelDef.summary")
    found = install(f"{PLAIN}{HOOK.replace('summary=', 'old_field=')}")
    found.names("model")
    (fault,) = found.faults()
    assert fault.code == "QS004"
    assert "`ModelDef.old_field` is called `ModelDef.summary`" in fault.help


def test_an_old_name_that_a_hook_imports(install):
    body = "def build(params):\n    return None\n"
    hook = HOOK.replace("    return [", "    from qatspec.api import OldRecord\n    return [")
    found = install(f"{body}{hook}")
    found.names("model")
    (fault,) = found.faults()
    assert fault.code == "QS004"
    assert "`OldRecord` is called `ModelDef`" in fault.help


def test_scripts_are_told_the_new_name():
    with pytest.raises(AttributeError, match="`OldRecord` is called `ModelDef`"):
        qatspec.api.OldRecord  # noqa: B018
    with pytest.raises(AttributeError, match=r"no attribute 'Nobody'$"):
        qatspec.api.Nobody  # noqa: B018


def test_members_of_other_classes_have_no_row():
    with pytest.raises(AttributeError) as caught:
        QuantHandler.old_method  # noqa: B018
    assert renames.missing_name(caught.value) is None
