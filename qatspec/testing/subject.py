"""What the checks are asked of."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from qatspec.diag import DiagnosticError
from qatspec.registry import Registry
from qatspec.schema import check, with_defaults

#: The entry point's name of what is under test, in `Subject.registry`.
ENTRY_POINT = "under_test"


class Skipped(Exception):
    """A check has nothing to look at, for the stated reason."""


@dataclass(frozen=True, slots=True)
class Subject:
    """plugin: the module under test. registry: it alone."""

    plugin: object
    registry: Registry

    def records(self, kind: str) -> list[Any]:
        """Its records of a kind, by name; of two with one name, none (names_are_unique fails)."""
        records: list[Any] = []
        for name in self.registry.registered(ENTRY_POINT).get(kind, []):
            with suppress(DiagnosticError):
                records.append(self.registry.record(kind, name))
        return records


def example_params(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Params to try a record with: the first of the schema's `examples`, else its defaults."""
    params: Any = next(iter(schema.get("examples", ())), {})
    filled: dict[str, Any] = with_defaults(schema, params, schema)
    if check(filled, schema):
        raise Skipped("its params have no defaults: give the schema `examples: [{...}]`")
    return filled
