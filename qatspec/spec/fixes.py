"""Correct a spec's files where the fix needs no decision: what `qatspec validate --fix` does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from qatspec.diag import DiagnosticError, Edit
from qatspec.registry import Registry
from qatspec.source import apply_fixes
from qatspec.spec.build import load, warnings

#: A later phase reports only after the earlier one passes; a spec has a handful of phases.
_ROUNDS = 8


def fix_files(
    path: str | Path,
    overrides: Sequence[str] = (),
    *,
    allow_code: bool = False,
    registry: Registry | None = None,
) -> list[tuple[Edit, str]]:
    """Write every fix that needs no decision into the spec and the files that it extends.

    Gives each edit, at its place in the file as it then was, with its title.
    Raises DiagnosticError QS114 where a file cannot be written; what is not sure is left to `load`.
    """
    done: list[tuple[Edit, str]] = []
    for _ in range(_ROUNDS):
        try:
            loaded = load(path, overrides, allow_code=allow_code, registry=registry)
            diagnostics, texts = warnings(loaded, registry), loaded.document.texts
        except DiagnosticError as error:
            diagnostics, texts = error.diagnostics, error.texts
        titles = {edit: d.fix.title for d in diagnostics if d.fix for edit in d.fix.edits}
        edits = apply_fixes(diagnostics, texts)
        if not edits:
            break
        done += [(edit, titles[edit]) for edit in edits]
    return done
