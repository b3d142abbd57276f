"""Checks of a plugin as a whole, and of the schemas in its records. Nothing here needs torch."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Any

from jsonschema import Draft202012Validator

from qatspec.diag.codes import QS009
from qatspec.hookspecs import API_VERSION
from qatspec.schema import check, with_defaults
from qatspec.testing.subject import ENTRY_POINT, Skipped, Subject
from qatspec.types import Lazy

#: The field of a record that holds a JSON Schema of what a spec may say.
_SCHEMAS = {"ModelDef": "params", "DatasetDef": "params", "March": "options"}


def api_version(subject: Subject) -> None:
    """It is written for this version of the plugin API; else the names that it has to change."""
    stated = getattr(subject.plugin, "qatspec_api", API_VERSION)
    outdated = [fault for fault in subject.registry.faults() if fault.code == QS009]
    renamed = [
        f"{note.span.file}:{note.span.line}: {note.text}"
        for fault in outdated
        for note in fault.notes
        if note.span is not None
    ]
    said = [f"qatspec_api is {stated!r}, this qatspec has {API_VERSION}", *renamed]
    assert stated == API_VERSION, "\n".join(said)


def hooks_return_records(subject: Subject) -> None:
    """No misspelt hook, no exception, only records with snake_case names."""
    faults = [f.message for f in subject.registry.faults()]
    assert not faults, "\n".join(faults)


def registers_something(subject: Subject) -> None:
    """The plugin registers a record or implements a hook; otherwise @hookimpl is missing."""
    registered = subject.registry.registered(ENTRY_POINT) or subject.registry.hooks(ENTRY_POINT)
    assert registered, "no hook is implemented: is @hookimpl missing?"


def names_are_unique(subject: Subject) -> None:
    """No two records of a kind share a name or an alias."""
    for kind, names in subject.registry.registered(ENTRY_POINT).items():
        for name in names:
            subject.registry.provider(kind, name)


def loading_imports_no_torch(subject: Subject) -> None:
    """`qatspec validate` loads every plugin: it must not cost torch's import."""
    if not isinstance(subject.plugin, ModuleType):
        raise Skipped("only a module can be imported again")
    name = subject.plugin.__name__
    code = f"import sys; sys.path[:] = {sys.path!r}; import {name}; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "False", "name callables with qatspec.api.lazy"


def summaries_are_there(subject: Subject) -> None:
    """Every record says what it is."""
    for kind, record in _records(subject):
        assert record.summary.strip(), f"{kind} {record.name} has no summary"


def named_callables_exist(subject: Subject) -> None:
    """Every `lazy("module:attribute")` can be imported."""
    for kind, record in _records(subject):
        for field, value in vars(record).items():
            if isinstance(value, Lazy):
                subject_name = f"{kind} {record.name}: {field} ({value.target})"
                try:
                    function = value.resolve()
                except (ImportError, AttributeError) as error:
                    raise AssertionError(f"{subject_name}: {error}") from error
                assert callable(function), f"{subject_name} cannot be called"


def schema_is_closed_and_described(subject: Subject, record: Any) -> None:
    """Unknown keys are refused, and every property says what it is."""
    schema = _schema(record)
    Draft202012Validator.check_schema(dict(schema))
    for name, part in _parts(schema, record.name):
        if part.get("type") == "object" or "properties" in part:
            assert "additionalProperties" in part, f"{name} is not closed"
    for name, part in _properties(schema, record.name):
        assert part.get("description") or "$ref" in part, f"{name} has no description"


def defaults_obey_the_schema(subject: Subject, record: Any) -> None:
    """What is filled in would be accepted if it were written."""
    schema = _schema(record)
    for name, part in _properties(schema, record.name):
        if "default" in part:
            local = {**part, "$defs": schema.get("$defs", {})}
            filled = with_defaults(local, part["default"], schema)
            assert check(filled, local) == [], f"{name}: the default is refused"


def _schema(record: Any) -> Mapping[str, Any]:
    schema: Mapping[str, Any] = getattr(record, _SCHEMAS[type(record).__name__])
    return schema


def _records(subject: Subject) -> Iterator[tuple[str, Any]]:
    for kind in subject.registry.registered(ENTRY_POINT):
        for record in subject.records(kind):
            yield kind, record


def _parts(schema: Any, where: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every subschema that describes a value, but conditions."""
    if not isinstance(schema, Mapping):
        return
    yield where, schema
    for key in ("properties", "$defs"):
        for name, part in schema.get(key, {}).items():
            yield from _parts(part, f"{where}.{name}")
    for key in ("items", "additionalProperties"):
        yield from _parts(schema.get(key), f"{where}.{key}")


def _properties(schema: Any, record_name: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for where, part in _parts(schema, record_name):
        for name, child in part.get("properties", {}).items():
            if isinstance(child, Mapping):
                yield f"{where}.{name}", child
