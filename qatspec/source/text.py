"""Bytes to text: what must hold of a file before YAML is looked at."""

from __future__ import annotations

import re
from pathlib import Path

from qatspec.diag import Diagnostic, DiagnosticError, Span
from qatspec.diag.words import nearest

MAX_BYTES = 2 * 1024 * 1024
#: Line breaks as YAML 1.1 parsers count them: spans count the same lines.
LINE_BREAK = re.compile("\r\n|[\n\r\x85\u2028\u2029]")
_UNPRINTABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_CONFLICT = re.compile(r"^<<<<<<<( |$).*?^>>>>>>>( |$)", re.MULTILINE | re.DOTALL)


def read_text(path: Path, *, shown: str, named_at: Span | None = None) -> str:
    """The text of a spec file, without a byte order mark.

    shown: the file's name in diagnostics; named_at: the place that names the file.
    Raises DiagnosticError QS101, QS104 or QS109; `check_text` looks at the rest.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise DiagnosticError(_unreadable(path, shown, error, named_at)) from None
    if len(data) > MAX_BYTES:
        raise _fail("QS109", f"`{shown}` is larger than 2 MiB", shown, "check the path")
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise _fail("QS104", "the file is UTF-16", shown, "save it as UTF-8")
    try:
        text = data.removeprefix(b"\xef\xbb\xbf").decode("utf-8")
    except UnicodeDecodeError as error:
        before = error.object[: error.start].decode("utf-8")
        span = span_at(before, len(before), shown)
        message = f"byte 0x{error.object[error.start]:02x} is not UTF-8"
        raise _fail("QS104", message, shown, "save the file as UTF-8", span) from None
    return text


def check_text(text: str, shown: str) -> None:
    """Raises DiagnosticError QS106 or QS112 at the offending place."""
    if bad := _UNPRINTABLE.search(text):
        message = f"control character U+{ord(bad.group()):04X}"
        span = span_at(text, bad.start(), shown)
        raise _fail("QS112", message, shown, "delete it", span)
    if conflict := _CONFLICT.search(text):
        start = span_at(text, conflict.start(), shown)
        span = Span(start.file, start.line, 1, start.line, 8)
        raise _fail(
            "QS106",
            "unresolved merge conflict",
            shown,
            "keep one side and delete the lines `<<<<<<<`, `=======` and `>>>>>>>`",
            span,
        )


def split_lines(text: str) -> list[str]:
    """The lines of a text as spans count them."""
    return LINE_BREAK.split(text)


def span_at(text: str, index: int, file: str) -> Span:
    """The one-character span at `index`."""
    lines = split_lines(text[:index])
    line, col = len(lines), len(lines[-1]) + 1
    return Span(file, line, col, line, col + 1)


def _unreadable(
    path: Path, shown: str, error: OSError | ValueError, named_at: Span | None
) -> Diagnostic:
    reasons: dict[type[Exception], str] = {
        FileNotFoundError: "there is no such file",
        IsADirectoryError: "it is a folder",
        NotADirectoryError: "there is no such file",
        PermissionError: "it may not be read (permissions)",
    }
    reason = reasons.get(type(error)) or getattr(error, "strerror", None) or str(error)
    return Diagnostic(
        code="QS101",
        message=f"`{shown}` cannot be read: {reason}",
        help=_siblings(path, named_at),
        span=named_at or Span(shown),
    )


def _siblings(path: Path, named_at: Span | None) -> str:
    try:
        there = sorted(p.name for p in path.parent.iterdir() if p.suffix in (".yaml", ".yml"))
    except (OSError, ValueError):
        return "check the path"
    own = Path(named_at.file).name if named_at else ""
    if near := nearest(path.name, [name for name in there if name != own]):
        return f"did you mean `{near}`?"
    if named_at is None:
        return "check the path"
    return "mend the path, or put the file there; paths are relative to the file that extends"


def _fail(
    code: str,
    message: str,
    shown: str,
    advice: str,
    span: Span | None = None,
) -> DiagnosticError:
    return DiagnosticError(
        Diagnostic(code=code, message=message, help=advice, span=span or Span(shown))
    )
