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

    def __init__(self, found: Iterable[Diagnostic] = ()) -> None:
        self.found = list(found)

    def __bool__(self) -> bool:
        return bool(self.found)

    def add(self, diagnostics: Diagnostic | Iterable[Diagnostic]) -> None:
        """Add diagnostics that are not known yet."""
        several = (diagnostics,) if isinstance(diagnostics, Diagnostic) else diagnostics
        self.found += [d for d in dict.fromkeys(several) if d not in self.found]

    def stop(self) -> None:
        """Note at the last diagnostic that the walk ended there."""
        self.found[-1] = replace(self.found[-1], notes=(*self.found[-1].notes, STOPPED))

    @contextmanager
    def collect(self, *, doubtful: Iterable[Code] = ()) -> Iterator[None]:
        """Add what is raised inside as a DiagnosticError, and go on behind the block. Once there is
        a diagnostic, any other error is taken for a consequence of it.

        doubtful: codes of diagnostics from which those raised inside may follow; behind one of
        these, a diagnostic without a place, or on the same line, is left out.
        """
        try:
            yield
        except DiagnosticError as error:
            before = [d.span for d in self.found if d.code in doubtful]
            known = {(span.file, span.line) for span in before if span is not None}
            self.add(
                d
                for d in error.diagnostics
                if not before or (d.span is not None and (d.span.file, d.span.line) not in known)
            )
        except Exception:
            if not self.found:
                raise

    def raise_if_any(self) -> None:
        """Raise DiagnosticError with everything that was found, one diagnostic a cause."""
        if self.found:
            raise DiagnosticError(grouped(self.found))


def grouped(diagnostics: Iterable[Diagnostic]) -> list[Diagnostic]:
    """Return one diagnostic for each cause: those of one code whose messages are equal but for
    their subjects become the first of them, with the number of the others and their places."""
    causes: dict[object, list[Diagnostic]] = {}
    for found in diagnostics:
        message = found.message.replace(found.subject, "\0", 1) if found.subject else found.message
        causes.setdefault((found.code, found.severity, message, found.origin), []).append(found)
    return [_one(alike) for alike in causes.values()]


def _one(alike: Sequence[Diagnostic]) -> Diagnostic:
    first, *others = alike
    if not others:
        return first
    notes = dict.fromkeys(note for found in alike for note in found.notes)
    more = f"{len(others)} more place{'s' if len(others) > 1 else ''}"
    return replace(
        first,
        message=f"{first.message}; here and at {more}",
        notes=(*_places(first, others), *list(notes)[:_LINES]),
    )


def _places(first: Diagnostic, others: Iterable[Diagnostic]) -> Iterator[Note]:
    """A note for each line that holds one of `others`."""
    lines: dict[tuple[Span | None, str | None], list[str]] = {}
    for found in others:
        lines.setdefault((found.span, found.at), []).append(found.subject)
    for (span, at), subjects in list(lines.items())[:_LINES]:
        named = [subject for subject in subjects if subject]
        shown = ", ".join(named[:_PARTS]) or "here"
        more = f" and {len(named) - _PARTS} more" if len(named) > _PARTS else ""
        same = (span, at) == (first.span, first.at)
        where = " on the same line" if same and span is not None else ""
        yield Note(f"also {shown}{more}{where}", *(() if same else (at, span)))
    if len(lines) > _LINES:
        yield Note(f"also on {len(lines) - _LINES} more lines")
