"""Diagnostics for people: place, message, the line with a caret, help, notes."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping

from qatspec.diag import Diagnostic, Span
from qatspec.render.clean import clean, clean_line, mask
from qatspec.render.wrap import wrap
from qatspec.source import split_lines

_WIDTH = 100
#: Columns beside it: the number of the line with its bar, and "..." on both sides.
_MARGIN = 14
_NARROWEST = 40
_STYLES = {"error": "1;31", "warning": "1;33", "bold": "1", "dim": "2", "help": "36"}


def text(
    diagnostics: Iterable[Diagnostic],
    texts: Mapping[str, str],
    *,
    color: bool,
    width: int | None = None,
) -> str:
    """One paragraph a diagnostic; ANSI colours with `color`. width: columns to wrap the words at;
    lines of files are as long as they are."""
    return "\n".join(_one(d, texts, color, width) for d in diagnostics)


def _one(diagnostic: Diagnostic, texts: Mapping[str, str], color: bool, width: int | None) -> str:
    head = f"{diagnostic.severity}[{diagnostic.code}]"
    location = f"{_location(diagnostic.span)}: " if diagnostic.span else ""
    message = clean_line(diagnostic.message)
    first, *rest = _wrapped(f"{location}{head}: {message}", width, 4)
    painted = f"{_paint(location, 'bold', color)}{_paint(head, diagnostic.severity, color)}"
    lines = [
        first.replace(f"{location}{head}", painted, 1),
        *(f"    {line}" for line in rest),
        *_excerpt(diagnostic.span, texts, diagnostic.severity, color, width),
    ]
    if diagnostic.help:
        first, *more = clean(diagnostic.help).rstrip("\n").split("\n")
        first, *rest = _wrapped(first, width, 8)
        lines.append(f"  {_paint('help:', 'help', color)} {first}")
        lines += [f"        {line}" for line in rest]
        lines += [f"    {line}" for line in more]
    for note in diagnostic.notes:
        first, *rest = _wrapped(clean_line(note.text), width, 8)
        lines.append(f"  {_paint('note:', 'dim', color)} {first}")
        lines += [f"        {line}" for line in rest]
        if note.span is not None:
            lines.append(f"   --> {_location(note.span)}")
            lines += _excerpt(note.span, texts, "help", color, width)
    if diagnostic.origin:
        lines.append(f"  {_paint('from:', 'dim', color)} {clean_line(diagnostic.origin)}")
    return "\n".join(lines)


def _wrapped(words: str, width: int | None, indent: int) -> list[str]:
    """Words in lines of `width` columns less the indent."""
    if width is None:
        return [words]
    return wrap(words, max(width - indent, _NARROWEST)) or [words]


def _excerpt(
    span: Span | None, texts: Mapping[str, str], style: str, color: bool, width: int | None
) -> list[str]:
    """The line of `span` with its text underlined; nothing where the text is not at hand. A line
    that is longer than the terminal is cut around the text."""
    if span is None or span.line == 0 or span.file not in texts:
        return []
    lines = split_lines(texts[span.file])
    if span.line > len(lines):
        return []
    line = lines[span.line - 1]
    start = min(span.col - 1, len(line))
    end = span.end_col - 1 if span.end_line == span.line else len(line)
    end = min(max(end, start + 1), max(len(line), start + 1))
    most = _WIDTH if width is None else min(_WIDTH, max(width - _MARGIN, _NARROWEST))
    cut = max(0, start - most // 2) if end > most else 0
    shown = line[cut : cut + most]
    prefix = "..." if cut else ""
    suffix = "..." if cut + most < len(line) else ""
    before = " " * (len(prefix) + _columns(line[cut:start]))
    carets = "^" * max(1, _columns(line[start : min(end, cut + most)]))
    number = f"{span.line:>5}"
    return [
        f"{_paint(f'{number} |', 'dim', color)} {prefix}{mask(shown)}{suffix}",
        f"{_paint('      |', 'dim', color)} {before}{_paint(carets, style, color)}",
    ]


def _columns(line: str) -> int:
    """Columns of a terminal that a text takes: wide characters two, combining ones none."""
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in ("W", "F") else 1
        for c in line
    )


def _location(span: Span) -> str:
    file = clean_line(span.file)
    return f"{file}:{span.line}:{span.col}" if span.line else file


def _paint(words: str, style: str, color: bool) -> str:
    return f"\x1b[{_STYLES[style]}m{words}\x1b[0m" if color and words else words
