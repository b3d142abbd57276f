"""From an older version of the spec language to the newest, as edits of the files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from qatspec.diag import Edit, Fix
from qatspec.diag.codes import QS202, QS207
from qatspec.schema import VERSION
from qatspec.source import Document, apply_fixes, load_document

#: version -> the edits that make a document of that version one of the next. Version 1 is the
#: first and the newest, so there is none yet; `qatspec: N` itself is edited by `migrate`.
Step = Callable[[Document], list[Edit]]
STEPS: Mapping[int, Step] = {}


def migrate(
    path: str | Path, *, steps: Mapping[int, Step] = STEPS, newest: int = VERSION
) -> tuple[int, list[Edit]]:
    """Bring a spec, with the files that it extends, to the newest version of the language.

    Gives (the version it was, the edits that were written, none where it is the newest).
    Raises DiagnosticError: QS207 for a version that is not known, QS202 for none at all, QS114
    where a file cannot be written, and what reading the spec raises.
    """
    document = load_document(path)
    with document.located():
        was = version = _version(document, newest)
    done: list[Edit] = []
    while version < newest:
        edits = [*steps[version](document), Edit(document.span("/qatspec"), str(version + 1))]
        diagnostic = QS207.diagnostic("", fix=Fix("", tuple(edits)))
        done += apply_fixes([diagnostic], document.texts)
        document, version = load_document(path), version + 1
    return was, done


def _version(document: Document, newest: int) -> int:
    if "qatspec" not in document.data:
        raise QS202.error(
            "the spec lacks the key `qatspec`",
            help=f"add `qatspec: {newest}` (version of the spec language)",
            at="",
            key=True,
        )
    version = document.data["qatspec"]
    if not isinstance(version, int) or isinstance(version, bool) or not 1 <= version <= newest:
        raise QS207.error(
            f"version {version} of the spec language is not known",
            help=f"this qatspec knows versions up to {newest}: `pip install -U qatspec`",
            at="/qatspec",
        )
    return version
