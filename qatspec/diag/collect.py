"""Collect the diagnostics of a walk, so that one run reports every place instead of the first."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from qatspec.diag.model import Code, Diagnostic, DiagnosticError, Note, Span

#: How many lines of a model, and how many of its parts on one line, a diagnostic names.
_LINES, _PARTS = 10, 6
STOPPED = Note("what follows this place was not checked: further places may follow")


class Collector:
    """Diagnostics in the order in which they were found, each once."""

    def __init__(self, diagnostics: Iterable[Diagnostic] = ()) -> None:
        self.diagnostics = list(diagnostics)

    def __bool__(self) -> bool:
        return bool(self.diagnostics)

    def add(self, diagnostics: Diagnostic | Iterable[Diagnostic]) -> None:
        """Add diagnostics that are not known yet."""
        several = (diagnostics,) if isinstance(diagnostics, Diagnostic) else diagnostics
        self.diagnostics += [d for d in dict.fromkeys(several) if d not in self.diagnostics]

    def stop(self) -> None:
        """Note at the last diagnostic that the walk ended there."""
        self.diagnostics[-1] = replace(
            self.diagnostics[-1], notes=(*self.diagnostics[-1].notes, STOPPED)
        )

    @contextmanager
    def collect(self, *, doubtful: Iterable[Code] = ()) -> Iterator[None]:
        """Add the diagnostics of a DiagnosticError that is raised inside, and continue after the
        block. Once there is a diagnostic, any other error is taken for a consequence of it.

        doubtful: codes of diagnostics that may cause further ones; after one of these, a diagnostic
        without a place, or on the same line, is omitted.
        """
        try:
            yield
        except DiagnosticError as error:
            before = [d.span for d in self.diagnostics if d.code in doubtful]
            known = {(span.file, span.line) for span in before if span is not None}
            self.add(
                d
                for d in error.diagnostics
                if not before or (d.span is not None and (d.span.file, d.span.line) not in known)
            )
        except Exception:
            if not self.diagnostics:
                raise

    def raise_if_any(self) -> None:
        """Raise DiagnosticError with everything that was found, one diagnostic a cause."""
        if self.diagnostics:
            raise DiagnosticError(grouped(self.diagnostics))


def grouped(diagnostics: Iterable[Diagnostic]) -> list[Diagnostic]:
    """Return one diagnostic for each cause: those of one code whose messages are equal but for
    their subjects become the first of them, with the number of the others and their places."""
    causes: dict[object, list[Diagnostic]] = {}
    for diagnostic in diagnostics:
        message = (
            diagnostic.message.replace(diagnostic.subject, "\0", 1)
            if diagnostic.subject
            else diagnostic.message
        )
        causes.setdefault(
            (diagnostic.code, diagnostic.severity, message, diagnostic.origin), []
        ).append(diagnostic)
    return [_one(alike) for alike in causes.values()]


def _one(alike: Sequence[Diagnostic]) -> Diagnostic:
    first, *others = alike
    if not others:
        return first
    notes = dict.fromkeys(note for diagnostic in alike for note in diagnostic.notes)
    more = f"{len(others)} more place{'s' if len(others) > 1 else ''}"
    return replace(
        first,
        message=f"{first.message}; here and at {more}",
        notes=(*_places(first, others), *list(notes)[:_LINES]),
    )


def _places(first: Diagnostic, others: Iterable[Diagnostic]) -> Iterator[Note]:
    """A note for each line that holds one of `others`."""
    lines: dict[tuple[Span | None, str | None], list[str]] = {}
    for diagnostic in others:
        lines.setdefault((diagnostic.span, diagnostic.at), []).append(diagnostic.subject)
    for (span, at), subjects in list(lines.items())[:_LINES]:
        named = [subject for subject in subjects if subject]
        shown = ", ".join(named[:_PARTS]) or "here"
        more = f" and {len(named) - _PARTS} more" if len(named) > _PARTS else ""
        same = (span, at) == (first.span, first.at)
        where = " on the same line" if same and span is not None else ""
        yield Note(f"also {shown}{more}{where}", *(() if same else (at, span)))
    if len(lines) > _LINES:
        yield Note(f"also on {len(lines) - _LINES} more lines")
