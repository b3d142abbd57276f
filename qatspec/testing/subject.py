"""What the checks are asked of."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
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
    """plugin: the module under test. registry: it alone. made: what one check computed of its
    records and the next one reads (Programs of the examples, compiled files)."""

    plugin: object
    registry: Registry
    made: dict[tuple[str | bytes, ...], Any] = field(default_factory=dict)

    def records(self, kind: str) -> list[Any]:
        """Its records of a kind, by name; of two with one name, none (names_are_unique fails)."""
        records: list[Any] = []
        for name in self.registry.registered(ENTRY_POINT).get(kind, []):
            with suppress(DiagnosticError):
                records.append(self.registry.record(kind, name))
        return records


def in_words(error: Exception) -> str:
    """An exception with the line that raised it: "KeyError: 'x' (net.py:12)"."""
    words, trace = f"{type(error).__name__}: {error}", error.__traceback__
    if trace is None:
        return words
    while trace.tb_next is not None:
        trace = trace.tb_next
    return f"{words} ({Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno})"


def example_params(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Params to try a record with: the first of the schema's `examples`, else its defaults."""
    params: Any = next(iter(schema.get("examples", ())), {})
    filled: dict[str, Any] = with_defaults(schema, params, schema)
    if check(filled, schema):
        raise Skipped("its params have no defaults: give the schema `examples: [{...}]`")
    return filled
