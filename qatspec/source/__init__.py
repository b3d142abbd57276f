"""YAML to a Document: plain data in which every value remembers its file and span."""

from qatspec.source.document import Document
from qatspec.source.environment import EnvironmentText, hide, hide_values, is_path, written
from qatspec.source.fixes import apply_fixes
from qatspec.source.load import load_document
from qatspec.source.text import code_line, split_lines

__all__ = [
    "Document",
    "EnvironmentText",
    "apply_fixes",
    "code_line",
    "hide",
    "hide_values",
    "is_path",
    "load_document",
    "split_lines",
    "written",
]
