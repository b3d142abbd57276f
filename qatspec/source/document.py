"""The Document: plain data and the table of places."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from qatspec.diag import Diagnostic, DiagnosticError, Note, Span
from qatspec.diag.codes import QS108
from qatspec.source.fixes import place_fix
from qatspec.source.pointer import join, parent
from qatspec.source.tree import MAX_DEPTH, Tree


@dataclass(frozen=True, slots=True)
class Document:
    """A spec's text, merged, with references resolved.

    path     the file that was asked for, as it was named.
    data     mappings, lists, texts, numbers, booleans and null.
    spans    JSON pointer -> (span of the key or None, span of the value).
    origins  JSON pointer -> where a value that was named by a reference or alias is defined.
    texts    file -> text, for showing lines; overrides stand in the file "--set".
    """

    path: str
    data: Any
    spans: Mapping[str, tuple[Span | None, Span]] = field(repr=False)
    origins: Mapping[str, Span] = field(repr=False)
    texts: Mapping[str, str] = field(repr=False)

    def span(self, pointer: str, *, key: bool = False) -> Span:
        """The place of the value at `pointer` (of its key, with `key`).

        A block that goes over several lines is shown by its key; what the file does not hold
        (a default, a missing key) by the nearest value around it.
        """
        while pointer and pointer not in self.spans:
            pointer, key = parent(pointer), True
        key_span, value = self.spans.get(pointer, (None, Span(self.path)))
        if key_span is not None and (key or value.line != value.end_line or not _shown(value)):
            return key_span
        if not pointer:
            return Span(value.file, value.line, value.col, value.line, value.col)
        return value

    def resolve(self, diagnostics: Iterable[Diagnostic]) -> tuple[Diagnostic, ...]:
        """The diagnostics with pointers turned into places: sorted by place, no repeats."""
        resolved = dict.fromkeys(self._resolve(d) for d in diagnostics)
        return tuple(sorted(resolved, key=lambda d: (d.span or Span(""), d.code, d.message)))

    @contextmanager
    def located(self) -> Iterator[None]:
        """Diagnostics that are raised inside leave with places."""
        try:
            yield
        except DiagnosticError as error:
            raise DiagnosticError(self.resolve(error.diagnostics), self.texts) from error.__cause__

    def _resolve(self, diagnostic: Diagnostic) -> Diagnostic:
        notes = tuple(
            replace(n, span=self.span(n.at, key=True)) if n.at is not None and n.span is None else n
            for n in diagnostic.notes
        )
        if diagnostic.at is None and diagnostic.span is None and diagnostic.code.about:
            diagnostic = replace(diagnostic, at=diagnostic.code.about, key=True)
        if diagnostic.at is None or diagnostic.span is not None:
            return replace(
                diagnostic, notes=notes, fix=place_fix(diagnostic.fix, diagnostic.span, self.texts)
            )
        origin = self.origins.get(diagnostic.at)
        if origin is not None and not diagnostic.key:
            notes = (Note("the value comes from here", span=origin), *notes)
        span = self.span(diagnostic.at, key=diagnostic.key)
        text_span = span if diagnostic.at in self.spans else None  # a default has no text to edit
        fix = place_fix(diagnostic.fix, text_span, self.texts)
        return replace(diagnostic, span=span, notes=notes, fix=fix)


def to_document(tree: Tree, path: str, texts: Mapping[str, str]) -> Document:
    """Flatten a tree into plain data and its table of places. Raises DiagnosticError QS108."""
    spans: dict[str, tuple[Span | None, Span]] = {}
    origins: dict[str, Span] = {}

    def flatten(node: Tree, pointer: str, depth: int) -> Any:
        if depth > MAX_DEPTH:
            message = f"nested more than {MAX_DEPTH} levels deep once references are expanded"
            raise QS108.error(message, help="flatten it", span=node.span)
        spans[pointer] = (node.key, node.span)
        if node.origin is not None:
            origins[pointer] = node.origin
        if isinstance(node.value, dict):
            return {
                name: flatten(child, join(pointer, name), depth + 1)
                for name, child in node.value.items()
            }
        if isinstance(node.value, list):
            return [
                flatten(child, join(pointer, index), depth + 1)
                for index, child in enumerate(node.value)
            ]
        return node.value

    return Document(path, flatten(tree, "", 0), spans, origins, texts)


def _shown(span: Span) -> bool:
    """Return whether the span covers text that can be underlined."""
    return (span.line, span.col) != (span.end_line, span.end_col)
