"""The kit passes what is sound and fails plugins that are broken on purpose."""

import pytest

from qatspec.hookspecs import hookimpl
from qatspec.registry import Plugin, Registry
from qatspec.testing import PluginConformance
from qatspec.types import NO_PARAMS, ModelDef, lazy

KIT = PluginConformance()


def registry(**fields):
    made = {"name": "net", "summary": "s", "params": NO_PARAMS, "build": print, **fields}

    class Some:
        @hookimpl
        def qatspec_models(self):
            return [ModelDef(**made)]

    return Registry([Plugin("under_test", "under-test", "0", Some())])


def schema(**part):
    return {"type": "object", "additionalProperties": False, "properties": {"a": part}}


CASES = (
    KIT.test_hooks_are_hooks_and_return_records, KIT.test_it_registers_something,
    KIT.test_names_are_unique, KIT.test_schemas_are_closed_and_described,
    KIT.test_defaults_obey_their_schema, KIT.test_summaries_are_there,
    KIT.test_named_callables_exist,
)  # fmt: skip


def fails(case, found):
    try:
        case(found)
    except Exception:  # noqa: BLE001  a kit may fail a plugin in any way
        return True
    return False


def failing(found):
    return [case.__name__ for case in CASES if fails(case, found)]


def test_a_sound_plugin():
    assert failing(registry(params=schema(type="integer", default=1, description="d"))) == []


@pytest.mark.parametrize(
    ("fields", "case"),
    [
        ({"name": "Net"}, "test_hooks_are_hooks_and_return_records"),
        ({"summary": " "}, "test_summaries_are_there"),
        ({"params": schema(type="integer")}, "test_schemas_are_closed_and_described"),
        ({"params": {"type": "object", "properties": {}}}, "test_schemas_are_closed_and_described"),
        ({"params": {"type": "objekt"}}, "test_schemas_are_closed_and_described"),
        ({"params": schema(type="integer", default="x", description="d")},
         "test_defaults_obey_their_schema"),
        ({"build": lazy("qatspec.nowhere:build")}, "test_named_callables_exist"),
    ],
)  # fmt: skip
def test_a_broken_plugin(fields, case):
    assert case in failing(registry(**fields))


def test_a_plugin_that_nobody_finds():
    found = Registry([Plugin("under_test", "under-test", "0", object())])
    assert failing(found) == ["test_it_registers_something"]


def test_a_plugin_that_imports_torch(tmp_path, monkeypatch):
    (tmp_path / "heavy_plugin.py").write_text("import torch\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    module = type(pytest)("heavy_plugin")
    with pytest.raises(AssertionError):
        KIT.test_loading_imports_no_torch(module)
