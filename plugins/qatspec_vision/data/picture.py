"""Warnings about pictures."""

from __future__ import annotations

from pathlib import Path

from qatspec.api import Diagnostic, Span, codes


def rotation_ignored(annotations: Path) -> Diagnostic:
    """The warning that pictures are taken as they are stored, as `annotations` are of them so."""
    return codes.QS951.warning(
        f"pictures of `{annotations.name}` have a rotation tag, which is ignored: their "
        "annotations have the size of the stored pixels, not of the upright picture",
        help="if objects look turned in drawings, remove the tags (`exiftool -Orientation= FILE`) "
        "or correct the annotations",
        span=Span(file=str(annotations)),
    )
