"""Diagnostics: what went wrong, where, and the way out.

Every package reports through these records. Producers give a code, words and a *pointer* into the
document (or a file span for code and data); only `qatspec.source` turns pointers into lines.
"""

from qatspec.diag.codes import CODES as CODES
from qatspec.diag.collect import Collector as Collector, grouped as grouped
from qatspec.diag.faults import PluginFault as PluginFault
from qatspec.diag.model import (
    Code as Code,
    Diagnostic as Diagnostic,
    DiagnosticError as DiagnosticError,
    Edit as Edit,
    Fix as Fix,
    InternalError as InternalError,
    Note as Note,
    QatspecError as QatspecError,
    Severity as Severity,
    Span as Span,
)
