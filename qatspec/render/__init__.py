"""Diagnostics to text, JSON, GitHub workflow commands and SARIF: the one renderer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

from qatspec.diag import Diagnostic
from qatspec.render.clean import clean, clean_line
from qatspec.render.machine import github, sarif, to_json
from qatspec.render.text import text

Format = Literal["text", "json", "github", "sarif"]
FORMATS: tuple[Format, ...] = ("text", "json", "github", "sarif")


def render(
    diagnostics: Iterable[Diagnostic],
    texts: Mapping[str, str] | None = None,
    format: Format = "text",  # noqa: A002
    *,
    color: bool = False,
) -> str:
    """Diagnostics as one text, without a line break at the end.

    texts: file -> text, for the lines that the text format shows.
    """
    match format:
        case "json":
            return clean(to_json(diagnostics))
        case "github":
            return github(diagnostics)
        case "sarif":
            return clean(sarif(diagnostics))
        case "text":
            return text(diagnostics, texts or {}, color=color)


__all__ = ["FORMATS", "Format", "clean", "clean_line", "render"]
