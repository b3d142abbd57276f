"""Diagnostics: what went wrong, where, and the way out.

Every package reports through these records. Producers give a code, words and a *pointer* into the
document (or a file span for code and data); only `qatspec.source` turns pointers into lines.
"""

from qatspec.diag.codes import CODES
from qatspec.diag.faults import PluginFault
from qatspec.diag.model import (
    Code,
    Diagnostic,
    DiagnosticError,
    Edit,
    Fix,
    InternalError,
    Note,
    QatspecError,
    Severity,
    Span,
)

__all__ = [
    "CODES",
    "Code",
    "Diagnostic",
    "DiagnosticError",
    "Edit",
    "Fix",
    "InternalError",
    "Note",
    "PluginFault",
    "QatspecError",
    "Severity",
    "Span",
]
