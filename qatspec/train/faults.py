"""Why a process of a data-parallel training ended, on its way to rank 0."""

from __future__ import annotations

import traceback
from dataclasses import dataclass, replace

from qatspec.diag import Diagnostic, DiagnosticError, Note, PluginFault
from qatspec.diag.codes import QS908
from qatspec.registry import registry


@dataclass(frozen=True, slots=True)
class Fault:
    """Diagnostics, and the traceback."""

    diagnostics: tuple[Diagnostic, ...]
    trace: str

    def of_rank(self, rank: int) -> DiagnosticError:
        """The error that rank 0 raises for it."""
        where = Note(f"in the training process of rank {rank}")
        error = DiagnosticError(replace(d, notes=(*d.notes, where)) for d in self.diagnostics)
        error.__cause__ = RuntimeError(f"in the process of rank {rank}:\n{self.trace}")
        return error


def fault_of(error: BaseException) -> Fault:
    """What a process that fails with `error` tells rank 0."""
    return Fault(_diagnostics(error), "".join(traceback.format_exception(error)))


def _diagnostics(error: BaseException) -> tuple[Diagnostic, ...]:
    if isinstance(error, DiagnosticError):
        return error.diagnostics
    fault = error if isinstance(error, PluginFault) else registry().plugin_fault(error)
    if fault is not None:
        return (fault.diagnostic(),)
    words = str(error).partition("\n")[0]
    return (
        QS908.diagnostic(
            f"a training process failed: {type(error).__name__}: {words}",
            help="run with `--nproc 1` to see whether the error is of the training itself; "
            "--debug shows the traceback",
        ),
    )
