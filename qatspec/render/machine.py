"""Diagnostics for programs: JSON, GitHub workflow commands, SARIF 2.1.0."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from qatspec import __version__
from qatspec.diag import Diagnostic, Edit, Fix, Span
from qatspec.render.clean import clean

#: Minor additions keep the number; readers may reject numbers they do not know.
FORMAT = 1


def to_json(diagnostics: Iterable[Diagnostic]) -> str:
    """{"format_version": 1, "diagnostics": [...]}."""
    entries = [
        {
            "code": d.code,
            "severity": d.severity,
            "message": d.message,
            "help": d.help,
            "pointer": d.at,
            "span": _span(d.span),
            "notes": [{"text": n.text, "span": _span(n.span)} for n in d.notes],
            "origin": d.origin,
            "fix": _fix(d.fix),
        }
        for d in diagnostics
    ]
    return json.dumps(
        {"format_version": FORMAT, "diagnostics": entries}, indent=2, ensure_ascii=False
    )


def github(diagnostics: Iterable[Diagnostic]) -> str:
    """Workflow commands, which GitHub shows beside the changed lines
    (docs.github.com, "Workflow commands for GitHub Actions")."""
    return "\n".join(_command(d) for d in diagnostics)


def sarif(diagnostics: Iterable[Diagnostic]) -> str:
    """SARIF 2.1.0 (OASIS), columns in code points."""
    all_diagnostics = list(diagnostics)
    codes = sorted({d.code for d in all_diagnostics})
    run = {
        "tool": {
            "driver": {
                "name": "qatspec",
                "version": __version__,
                "rules": [
                    {
                        "id": code,
                        "shortDescription": {"text": code.headline},
                        "help": {"text": code.page, "markdown": code.page},
                    }
                    for code in codes
                ],
            }
        },
        "columnKind": "unicodeCodePoints",
        "results": [_result(d, codes.index(d.code)) for d in all_diagnostics],
    }
    return json.dumps(
        {
            "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
            "version": "2.1.0",
            "runs": [run],
        },
        indent=2,
        ensure_ascii=False,
    )


def _span(span: Span | None) -> dict[str, Any] | None:
    if span is None:
        return None
    return {
        "file": span.file,
        "line": span.line,
        "col": span.col,
        "end_line": span.end_line,
        "end_col": span.end_col,
    }


def _fix(fix: Fix | None) -> dict[str, Any] | None:
    if fix is None or not fix.edits:
        return None
    edits = [{"span": _span(edit.span), "text": edit.text} for edit in fix.edits]
    return {"title": fix.title, "edits": edits}


def _command(diagnostic: Diagnostic) -> str:
    fields: dict[str, str] = {"title": diagnostic.code}
    if diagnostic.span is not None:
        fields["file"] = diagnostic.span.file
        if diagnostic.span.line:
            fields |= {"line": str(diagnostic.span.line), "col": str(diagnostic.span.col)}
            fields |= {
                "endLine": str(diagnostic.span.end_line),
                "endColumn": str(diagnostic.span.end_col),
            }
    written = ",".join(f"{k}={_escape(v, ':', ',')}" for k, v in fields.items())
    message = f"{diagnostic.message}; {diagnostic.help}" if diagnostic.help else diagnostic.message
    return f"::{diagnostic.severity} {written}::{_escape(message)}"


def _escape(words: str, *more: str) -> str:
    words = clean(words)
    for char in ("%", "\r", "\n", *more):
        words = words.replace(char, f"%{ord(char):02X}")
    return words


def _result(diagnostic: Diagnostic, rule: int) -> dict[str, Any]:
    words = f"{diagnostic.message}\n{diagnostic.help}" if diagnostic.help else diagnostic.message
    result: dict[str, Any] = {
        "ruleId": diagnostic.code,
        "ruleIndex": rule,
        "level": diagnostic.severity,
        "message": {"text": words},
    }
    if diagnostic.span is not None:
        result["locations"] = [{"physicalLocation": _location(diagnostic.span)}]
    if related := [note for note in diagnostic.notes if note.span is not None]:
        result["relatedLocations"] = [
            {"message": {"text": note.text}, "physicalLocation": _location(note.span)}
            for note in related
        ]
    if diagnostic.fix is not None and diagnostic.fix.edits:
        changes = [_replacement(edit) for edit in diagnostic.fix.edits]
        result["fixes"] = [
            {"description": {"text": diagnostic.fix.title}, "artifactChanges": changes}
        ]
    return result


def _location(span: Span | None) -> dict[str, Any]:
    assert span is not None
    location: dict[str, Any] = {"artifactLocation": {"uri": span.file}}
    return {**location, "region": _region(span)} if span.line else location


def _replacement(edit: Edit) -> dict[str, Any]:
    return {
        "artifactLocation": {"uri": edit.span.file},
        "replacements": [
            {"deletedRegion": _region(edit.span), "insertedContent": {"text": edit.text}}
        ],
    }


def _region(span: Span) -> dict[str, int]:
    return {
        "startLine": span.line,
        "startColumn": span.col,
        "endLine": span.end_line,
        "endColumn": span.end_col,
    }
