"""What must hold of every plugin: the cases come from what it registers."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from qatspec.registry import Plugin, Registry
from qatspec.schema import check, with_defaults
from qatspec.types import Lazy

#: The field of a record that holds a JSON Schema of what a spec may say.
_SCHEMAS = {"model": "params", "dataset": "params", "march": "options"}


class PluginConformance:
    """Subclass it and give one fixture, `plugin`: the module of your entry point."""

    @pytest.fixture
    def plugin(self) -> object:
        """The module (or object) that holds the hook implementations."""
        raise pytest.UsageError("give the fixture `plugin`: the module of your entry point")

    @pytest.fixture
    def registry(self, plugin: object) -> Registry:
        """A registry that holds this plugin alone."""
        return Registry([Plugin("under_test", "under-test", "0", plugin)])

    def test_hooks_are_hooks_and_return_records(self, registry: Registry) -> None:
        """No misspelt hook, no exception, only records with snake_case names."""
        assert [f.message for f in registry.faults()] == []

    def test_it_registers_something(self, registry: Registry) -> None:
        """A plugin without records is one whose hooks nobody found (a missing @hookimpl)."""
        assert registry.registered("under_test") or registry.hooks("under_test")

    def test_names_are_unique(self, registry: Registry) -> None:
        for kind, names in registry.registered("under_test").items():
            for name in names:
                registry.provider(kind, name)

    def test_loading_imports_no_torch(self, plugin: object) -> None:
        """`qatspec validate` loads every plugin: it must not cost torch's import."""
        if not isinstance(plugin, ModuleType):
            pytest.skip("only a module can be imported anew")
        code = f"import {plugin.__name__}, sys; print('torch' in sys.modules)"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip() == "False", "name callables with qatspec.api.lazy"

    def test_schemas_are_closed_and_described(self, registry: Registry) -> None:
        for name, schema in _schemas(registry):
            Draft202012Validator.check_schema(dict(schema))
            for place, part in _parts(schema, name):
                if part.get("type") == "object" or "properties" in part:
                    assert "additionalProperties" in part, f"{place} is not closed"
            for place, part in _properties(schema, name):
                assert part.get("description") or "$ref" in part, f"{place} has no description"

    def test_defaults_obey_their_schema(self, registry: Registry) -> None:
        for name, schema in _schemas(registry):
            for place, part in _properties(schema, name):
                if "default" in part:
                    local = {**part, "$defs": schema.get("$defs", {})}
                    filled = with_defaults(local, part["default"], schema)
                    assert check(filled, local) == [], f"{place}: the default is refused"

    def test_summaries_are_there(self, registry: Registry) -> None:
        for kind, names in registry.registered("under_test").items():
            for name in names:
                assert registry.record(kind, name).summary.strip(), f"{kind} {name}"

    def test_named_callables_exist(self, registry: Registry) -> None:
        """Every `lazy("module:attribute")` can be imported."""
        for kind, names in registry.registered("under_test").items():
            for name in names:
                for field, value in vars(registry.record(kind, name)).items():
                    if isinstance(value, Lazy):
                        assert callable(value.resolve()), f"{kind} {name}: {field}"


def _schemas(registry: Registry) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for kind, names in registry.registered("under_test").items():
        if kind in _SCHEMAS:
            for name in names:
                yield f"{kind} {name}", getattr(registry.record(kind, name), _SCHEMAS[kind])


def _parts(schema: Any, place: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every subschema that describes a value, but conditions."""
    if not isinstance(schema, Mapping):
        return
    yield place, schema
    for key in ("properties", "$defs"):
        for name, part in schema.get(key, {}).items():
            yield from _parts(part, f"{place}.{name}")
    for key in ("items", "additionalProperties"):
        yield from _parts(schema.get(key), f"{place}.{key}")


def _properties(schema: Any, place: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for where, part in _parts(schema, place):
        for name, child in part.get("properties", {}).items():
            if isinstance(child, Mapping):
                yield f"{where}.{name}", child
