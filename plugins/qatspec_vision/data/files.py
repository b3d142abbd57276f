"""Files of data sets. Standard library only: a plan digests their contents, and planning loads
neither torch nor numpy."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qatspec.api import (
    Diagnostic,
    DiagnosticError,
    Span,
    content_digest,
    open_file,
    why_unreadable,
)

#: What is taken for a picture, by the end of its name.
PICTURES = (
    ".avif", ".bmp", ".gif", ".jp2", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff",
    ".webp",
)  # fmt: skip


def files(folder: Path) -> list[str]:
    """The name of every file below a folder, relative to it, with forward slashes; in no order."""
    found = []
    for parent, _, names in os.walk(folder, onerror=_refuse):
        below = os.path.relpath(parent, folder).replace(os.sep, "/")
        found += names if below == "." else [f"{below}/{name}" for name in names]
    return found


def _refuse(error: OSError) -> None:
    """A folder that cannot be listed is an error: its pictures would be missing silently."""
    raise missing(Path(str(error.filename)), why_unreadable(error), "correct its permissions")


def why_unreadable_file(path: Path) -> str | None:
    """Why a file cannot be read; None where it can."""
    try:
        open_file(path).close()
    except OSError as error:
        return why_unreadable(error)
    return None


def pictures(folder: Path) -> list[str]:
    """Names, relative to folder, of every picture below it, sorted."""
    return sorted(name for name in files(folder) if name.lower().endswith(PICTURES))


def made_up_digest(params: Mapping[str, Any]) -> str:
    """Of a made-up set (qatspec_vision.data.made_up): the same numbers draw the same pictures."""
    return content_digest({}, [params.get("split", ""), params["made_up"]])


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
