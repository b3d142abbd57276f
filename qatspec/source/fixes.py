"""Turn fixes of diagnostics into edits of a file's text, and write them into the file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from qatspec.diag import Diagnostic, DiagnosticError, Edit, Fix, Span
from qatspec.diag.codes import QS114
from qatspec.files import replacing
from qatspec.source.text import LINE_BREAK, read_text

_BOM = b"\xef\xbb\xbf"


def place_fix(fix: Fix | None, span: Span | None, texts: Mapping[str, str]) -> Fix | None:
    """`fix` with its text made an edit of `span`; None where that place is not plainly written out:
    behind a reference, an alias, an anchor or a tag, over several lines, on the command line."""
    if fix is None or fix.edits or (fix.text is None and fix.line is None):
        return fix
    if span is None or span.line == 0 or span.line != span.end_line:
        return None
    text = texts.get(span.file)
    if text is None or not Path(span.file).is_file():
        return None
    if fix.line is not None:
        line_start = Span(span.file, span.line, 1, span.line, 1)
        return replace(fix, edits=(Edit(line_start, f"{' ' * (span.col - 1)}{fix.line}\n"),))
    start, end = _range(text, span)
    written = text[start:end]
    if not written or "${" in written or written[0] in "&*!|>":
        return None
    return replace(fix, edits=(Edit(span, fix.text or ""),))


def edited(text: str, edits: Iterable[Edit]) -> str:
    """`text` with the edits applied; of edits that overlap, the first is applied."""
    ranges = sorted({(*_range(text, edit.span), edit.text) for edit in edits})
    parts, done = [], 0
    for start, end, new in ranges:
        if start < done:
            continue
        parts += [text[done:start], new]
        done = end
    return "".join([*parts, text[done:]])


def apply_fixes(diagnostics: Iterable[Diagnostic], texts: Mapping[str, str]) -> list[Edit]:
    """Write the fixes of diagnostics into their files and return the edits that were made.

    Each file is replaced whole or not at all, and keeps its mode, line ends and byte order mark.
    Raises DiagnosticError QS114 where a file cannot be written or is no longer what was read.
    """
    by_file: dict[str, dict[Edit, None]] = {}
    for diagnostic in diagnostics:
        for edit in diagnostic.fix.edits if diagnostic.fix else ():
            by_file.setdefault(edit.span.file, {})[edit] = None
    for file, edits in by_file.items():
        _rewrite(Path(file), file, texts[file], edited(texts[file], edits))
    return [edit for edits in by_file.values() for edit in edits]


def _range(text: str, span: Span) -> tuple[int, int]:
    """Indexes of a span in its text."""
    starts = [0, *(match.end() for match in LINE_BREAK.finditer(text))]
    return starts[span.line - 1] + span.col - 1, starts[span.end_line - 1] + span.end_col - 1


def _rewrite(path: Path, shown: str, old: str, new: str) -> None:
    """Replace the text of a file, which is `old`, and keep its byte order mark."""
    if read_text(path, shown=shown) != old:
        raise _unwritable(shown, "it changed since it was read", "run the command again")
    try:
        mark = _BOM if path.read_bytes().startswith(_BOM) else b""
        with replacing(path) as temporary:
            temporary.write_bytes(mark + new.encode("utf-8"))
    except OSError as error:
        raise _unwritable(shown, error.strerror or str(error), "check its permissions") from None


def _unwritable(shown: str, reason: str, advice: str) -> DiagnosticError:
    message = f"`{shown}` cannot be fixed: {reason}"
    return QS114.error(message, help=advice, span=Span(shown))
