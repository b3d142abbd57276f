"""Findings of one phase: collected, then raised together."""

from __future__ import annotations

from collections.abc import Iterable
from types import TracebackType

from qatspec.diag import Diagnostic, DiagnosticError


class Findings:
    """`with findings: ...` stores the diagnostics that are raised inside and continues after it."""

    def __init__(self) -> None:
        self.diagnostics: list[Diagnostic] = []

    def __enter__(self) -> Findings:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        if not isinstance(error, DiagnosticError):
            return False
        self.diagnostics.extend(error.diagnostics)
        return True

    def add(self, diagnostics: Iterable[Diagnostic]) -> None:
        """Findings that were not raised."""
        self.diagnostics.extend(diagnostics)

    def stop(self) -> None:
        """End the phase. Raises DiagnosticError with the findings that are errors."""
        errors = [d for d in self.diagnostics if d.severity == "error"]
        if errors:
            raise DiagnosticError(errors)
