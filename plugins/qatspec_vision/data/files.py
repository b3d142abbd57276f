"""Files of data sets. Standard library only: a plan's digest needs names and sizes, and planning
loads neither torch nor numpy."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from qatspec.api import Diagnostic, DiagnosticError, Span

#: What is taken for a picture, by the end of its name.
PICTURES = (
    ".avif", ".bmp", ".gif", ".jp2", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff",
    ".webp",
)  # fmt: skip


def files(folder: Path) -> list[tuple[str, int]]:
    """(name relative to folder with forward slashes, size) of every file below it."""
    found = []
    for parent, _, names in os.walk(folder):
        below = Path(parent).relative_to(folder)
        found += [((below / n).as_posix(), (Path(parent) / n).stat().st_size) for n in names]
    return found


def pictures(folder: Path) -> list[str]:
    """Names, relative to folder, of every picture below it, sorted."""
    return sorted(name for name, _ in files(folder) if name.lower().endswith(PICTURES))


def digest_of(entries: Iterable[tuple[str, int]], head: bytes = b"") -> str:
    """sha256 over `head` and names and sizes, whatever their order."""
    digest = hashlib.sha256(head)
    for name, size in sorted(entries):
        digest.update(f"{name}\0{size}\0".encode())
    return digest.hexdigest()


def made_up_digest(params: Mapping[str, Any]) -> str:
    """Of a made-up set (qatspec_vision.data.made_up): the same numbers draw the same pictures."""
    return digest_of([], f"{params.get('split', '')} {params['made_up']}".encode())


def missing(path: Path, why: str, advice: str) -> DiagnosticError:
    """QS910 for a path of a data set."""
    return DiagnosticError(
        Diagnostic(
            code="QS910",
            message=f"data not found: {why}: `{path}`",
            help=advice,
            span=Span(file=str(path)),
        )
    )
