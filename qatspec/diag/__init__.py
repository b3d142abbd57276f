"""Diagnostics: what went wrong, where, and the way out.

Every room reports through these records. Producers give a code, words and a *pointer* into the
document (or a file span for code and data); only `qatspec.source` turns pointers into lines.
"""

from qatspec.diag.codes import CODES, Code
from qatspec.diag.model import (
    Diagnostic,
    DiagnosticError,
    Edit,
    Fix,
    InternalError,
    Note,
    PluginFault,
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
