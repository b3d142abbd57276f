"""Bytes to text: what must hold of a file before YAML is looked at."""

from __future__ import annotations

import errno
import linecache
import re
from pathlib import Path

from yaml.reader import Reader

from qatspec.diag import Code, Diagnostic, DiagnosticError, Edit, Fix, Span
from qatspec.diag.codes import QS101, QS104, QS106, QS109, QS112
from qatspec.diag.words import nearest, sure_correction as sure
from qatspec.files import how_to_read, read_file, why_unreadable
from qatspec.source import scalars

MAX_BYTES = 2 * 1024 * 1024
#: Line breaks as YAML 1.1 parsers count them: spans count the same lines.
LINE_BREAK = re.compile("\r\n|[\n\r\x85\u2028\u2029]")
_UNPRINTABLE = Reader.NON_PRINTABLE
_CONFLICT = re.compile(r"^<<<<<<<( |$).*?^>>>>>>>( |$)", re.MULTILINE | re.DOTALL)


def read_text(path: Path, *, shown: str, name: str = "", named_at: Span | None = None) -> str:
    """The text of a spec file, without a byte order mark.

    shown: the file's name in diagnostics; name: as the place `named_at` writes it.
    Raises DiagnosticError QS101, QS104 or QS109; `check_text` looks at the rest.
    """
    try:
        data = read_file(path, MAX_BYTES)
    except OSError as error:
        if error.errno == errno.EFBIG:
            message = f"`{shown}` is larger than 2 MiB"
            advice = "name a spec: other data stays in files of its own, which the spec names"
            raise _fail(QS109, message, shown, advice) from None
        raise DiagnosticError(_unreadable(path, shown, error, name, named_at)) from None
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise _fail(QS104, "the file is UTF-16", shown, "save it as UTF-8")
    try:
        text = data.removeprefix(b"\xef\xbb\xbf").decode("utf-8")
    except UnicodeDecodeError as error:
        before = error.object[: error.start].decode("utf-8")
        span = span_at(before, len(before), shown)
        byte = error.object[error.start]
        message = f"byte 0x{byte:02x} is not UTF-8"
        advice = (
            f"save the file as UTF-8; in Latin-1 the byte is `{chr(byte)}`"
            if byte >= 0xA0
            else "save the file as UTF-8, or type the character again"
        )
        lossy = {shown: data.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "replace")}
        diagnostics = _fail(QS104, message, shown, advice, span).diagnostics
        raise DiagnosticError(diagnostics, lossy) from None
    return text


def check_text(text: str, shown: str) -> None:
    """Raises DiagnosticError QS106 or QS112 at the offending place."""
    if bad := _UNPRINTABLE.search(text):
        message = f"control character U+{ord(bad.group()):04X}"
        span = span_at(text, bad.start(), shown)
        fixed = _UNPRINTABLE.sub("", split_lines(text)[span.line - 1]).strip()
        # A line with characters that change the order of what is read is not shown as it is.
        advice = f"delete it: `{fixed}`" if fixed.isprintable() else "delete this one character"
        fix = Fix(f"{message} deleted", (Edit(span, ""),)) if Path(shown).is_file() else None
        raise QS112.error(message, help=advice, span=span, fix=fix)
    if conflict := _CONFLICT.search(text):
        start = span_at(text, conflict.start(), shown)
        span = Span(start.file, start.line, 1, start.line, 8)
        lines = conflict.group().split("\n")
        last = start.line + len(lines) - 1
        middle = next((start.line + i for i, s in enumerate(lines) if s[:7] == "======="), last)
        advice = (
            f"to keep the first side, delete line {start.line} and lines {middle} to {last}; "
            f"to keep the second, lines {start.line} to {middle} and line {last}"
        )
        raise _fail(QS106, "unresolved merge conflict", shown, advice, span)


def split_lines(text: str) -> list[str]:
    """The lines of a text as spans count them."""
    return LINE_BREAK.split(text)


def code_line(file: str, line: int) -> Span:
    """A line of Python code without its indentation."""
    text = linecache.getline(file, line).rstrip()
    return Span(file, line, len(text) - len(text.lstrip()) + 1, line, len(text) + 1)


def span_at(text: str, index: int, file: str) -> Span:
    """The one-character span at `index`."""
    lines = split_lines(text[:index])
    line, col = len(lines), len(lines[-1]) + 1
    return Span(file, line, col, line, col + 1)


def _unreadable(
    path: Path, shown: str, error: OSError, name: str, named_at: Span | None
) -> Diagnostic:
    there = _siblings(path, named_at) if error.errno == errno.ENOENT else []
    # by stems: the endings, which all of them share, would make any two names alike
    stem = nearest(path.stem, [Path(name).stem for name in there])
    near = next((name for name in there if Path(name).stem == stem), None)
    corrected = sure(path.name, there)
    usual = "correct the path"
    if named_at is not None:
        usual = f"delete `{name}` from `extends`, or put the file there; "
        usual += "paths are relative to the file that extends"
    if "://" in name:
        near, usual = None, f"download it, and name the file in place of `{name}`"
    advice = f"did you mean `{near}`?" if near else how_to_read(error, usual)
    right = str(Path(name).parent / corrected) if corrected else ""
    return QS101.diagnostic(
        f"`{name if '://' in name else shown}` cannot be read: {why_unreadable(error)}",
        help=advice,
        span=named_at or Span(shown),
        fix=Fix(f"`{name}` -> `{right}`", text=scalars.written(right))
        if named_at and corrected
        else None,
    )


def _siblings(path: Path, named_at: Span | None) -> list[str]:
    """The specs in the folder of `path`, without the one that names it."""
    own_name = Path(named_at.file).name if named_at else ""
    try:
        there = sorted(p.name for p in path.parent.iterdir() if p.suffix in (".yaml", ".yml"))
    except (OSError, ValueError):
        return []
    return [name for name in there if name != own_name]


def _fail(
    code: Code,
    message: str,
    shown: str,
    advice: str,
    span: Span | None = None,
) -> DiagnosticError:
    return code.error(message, help=advice, span=span or Span(shown))
