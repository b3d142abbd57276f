"""Diagnostics to text, JSON, GitHub workflow commands and SARIF: the one renderer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Literal

from qatspec.diag import Diagnostic, Span
from qatspec.render.clean import clean as clean, clean_file as clean_file, clean_line as clean_line
from qatspec.render.machine import github, sarif, to_json
from qatspec.render.text import text
from qatspec.render.wrap import WORD as WORD, wrap as wrap
from qatspec.source import hide

Format = Literal["text", "json", "github", "sarif"]
FORMATS: tuple[Format, ...] = ("text", "json", "github", "sarif")


def render(
    diagnostics: Iterable[Diagnostic],
    texts: Mapping[str, str] | None = None,
    format: Format = "text",  # noqa: A002
    *,
    color: bool = False,
    width: int | None = None,
) -> str:
    """Diagnostics as one text, without a line break at the end.

    texts: file -> text, for the lines that the text format shows. width: columns to wrap the text
    format at, None: lines are as long as they are.
    Values of the environment are hidden (qatspec.source.environment).
    """
    diagnostics = [_hidden(d) for d in diagnostics]
    texts = {hide(file): hide(text) for file, text in (texts or {}).items()}
    match format:
        case "json":
            return clean(to_json(diagnostics))
        case "github":
            return github(diagnostics)
        case "sarif":
            return clean(sarif(diagnostics))
        case "text":
            return text(diagnostics, texts, color=color, width=width)


def _hidden(diagnostic: Diagnostic) -> Diagnostic:
    span = diagnostic.span and _hidden_place(diagnostic.span)
    notes = tuple(
        replace(n, text=hide(n.text), span=n.span and _hidden_place(n.span))
        for n in diagnostic.notes
    )
    help_ = hide(diagnostic.help) if diagnostic.help else diagnostic.help
    return replace(diagnostic, message=hide(diagnostic.message), help=help_, span=span, notes=notes)


def _hidden_place(span: Span) -> Span:
    return replace(span, file=hide(span.file))
