"""The spec while it is composed: what could not be carried, and what the config does not say."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from qatspec.diag import Diagnostic, Note, Span
from qatspec.diag.codes import QS971
from qatspec.hat.values import Symbol, Table, Unread
from qatspec.source.pointer import join

#: The comment on a value that was filled in.
NOT_SAID = "not in the config"


@dataclass
class Draft:
    """findings: warnings about the config. comments: JSON pointer -> comment in the spec."""

    findings: list[Diagnostic] = field(default_factory=list)  # each once
    comments: dict[str, str] = field(default_factory=dict)

    def leave(self, what: str, span: Span, why: str, help_: str) -> None:
        """Report a part of the config that the spec does not have."""
        self._add(QS971.warning(f"{what} is not carried: {why}", help=help_, span=span))

    def _add(self, finding: Diagnostic) -> None:
        """Stages share dictionaries: what one reported, another does not repeat."""
        if finding not in self.findings:
            self.findings.append(finding)

    def fill(self, values: dict[str, Any], at: str, **missing: Any) -> None:
        """Set keys that the config does not say, with a comment on each."""
        for key, value in missing.items():
            if key not in values:
                values[key] = value
                self.comments[_first_leaf(value, join(at, key))] = NOT_SAID

    def leave_unused(self, table: Table, path: str, help_: str) -> None:
        """Report keys that nothing took: one warning for each dictionary that has some."""
        by_parent: dict[str, list[tuple[str, Any, Span]]] = {}
        for key, value, span in table.unused(path):
            by_parent.setdefault(key.rpartition(".")[0], []).append((key, value, span))
        for parent, entries in by_parent.items():
            keys = ", ".join(f"`{key.rpartition('.')[2]}`" for key, _, _ in entries)
            what = f"{keys} of `{parent}`" if parent else keys
            notes = tuple(_unread(entries))
            self._add(
                QS971.warning(f"not carried: {what}", help=help_, span=entries[0][2], notes=notes)
            )


def _first_leaf(value: Any, at: str) -> str:
    """The pointer of the first line that holds a part of `value`: comments stand behind values."""
    while isinstance(value, dict) and value:
        key, value = next(iter(value.items()))
        at = join(at, key)
    return at


def _unread(entries: Iterable[tuple[str, Any, Span]]) -> Iterable[Note]:
    for key, value, span in entries:
        if isinstance(value, Unread):
            yield Note(f"`{key}` is computed by the config, which is not executed", span=span)


def plain(value: Any) -> bool:
    """Return whether a value can stand in a spec: numbers, texts and lists of them."""
    if isinstance(value, list | tuple):
        return all(plain(item) for item in value)
    return value is None or isinstance(value, str | int | float | bool)


def name_of(value: Any) -> str | None:
    """A name as a spec writes it: a text as it is, `foo.bar` without quotes as its text."""
    return value.text if isinstance(value, Symbol) else value if isinstance(value, str) else None
