"""Findings of one phase: collected, then raised together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from qatspec.diag import Diagnostic, DiagnosticError


class Findings:
    """`with findings.of(): ...` keeps what is raised inside and goes on behind the block."""

    def __init__(self) -> None:
        self.found: list[Diagnostic] = []

    @contextmanager
    def of(self) -> Iterator[None]:
        try:
            yield
        except DiagnosticError as error:
            self.found.extend(error.diagnostics)

    def add(self, diagnostics: Iterable[Diagnostic]) -> None:
        self.found.extend(diagnostics)

    def stop(self) -> None:
        """End the phase. Raises DiagnosticError with the findings that are errors."""
        errors = [d for d in self.found if d.severity == "error"]
        if errors:
            raise DiagnosticError(errors)
