"""Whether the model's code only shows a value: in the text of a warning, an assertion or a log."""

from __future__ import annotations

import ast
import linecache
import logging
import warnings
from functools import cache
from types import FrameType

from qatspec.graph.source import frame_span, model_frame

#: Functions whose text decides nothing.
_SHOW = {
    "print", "_assert", "warn", "warn_explicit", "debug", "info", "warning", "error", "critical",
    "exception", "log",
}  # fmt: skip
_SHOWING_FILES = {logging.__file__, warnings.__file__}


def is_in_message() -> bool:
    """Return whether the expression of the model's code that is running is an argument of a call
    that shows it: `print(x.shape)`, `torch._assert(ok, f"{x.shape}")`, `logger.debug(...)`."""
    frame = model_frame()
    return frame is not None and (frame.f_code.co_filename in _SHOWING_FILES or _shows(frame))


def _shows(frame: FrameType) -> bool:
    span = frame_span(frame)
    begin = (span.line or 0, span.col or 0)
    end = (span.end_line or span.line or 0, span.end_col or 0)
    calls = _calls(frame.f_code.co_filename)
    return any(first <= begin and end <= last for first, last in calls)


@cache
def _calls(path: str) -> tuple[tuple[tuple[int, int], tuple[int, int]], ...]:
    """(line, column) of the begin and end of each call in a file that shows its arguments."""
    try:
        tree = ast.parse("".join(linecache.getlines(path)))
    except SyntaxError:  # of another version of Python, or no Python
        return ()
    calls = (node for node in ast.walk(tree) if isinstance(node, ast.Call))
    return tuple(
        (
            (node.lineno, node.col_offset + 1),
            (node.end_lineno or node.lineno, (node.end_col_offset or 0) + 1),
        )
        for node in calls
        if _name(node.func) in _SHOW
    )


def _name(function: ast.expr) -> str:
    return getattr(function, "attr", None) or getattr(function, "id", None) or ""
