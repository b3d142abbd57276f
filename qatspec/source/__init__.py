"""YAML to a Document: plain data in which every value remembers its file and span."""

from qatspec.source.document import Document as Document
from qatspec.source.environment import (
    EnvironmentText as EnvironmentText,
    hide as hide,
    hide_values as hide_values,
    is_path as is_path,
    written as written,
)
from qatspec.source.fixes import apply_fixes as apply_fixes
from qatspec.source.load import load_document as load_document
from qatspec.source.parse import COMMAND_LINE as COMMAND_LINE
from qatspec.source.text import code_line as code_line, split_lines as split_lines
