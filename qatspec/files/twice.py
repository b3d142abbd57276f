"""Files that two sets share, by their contents."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from qatspec.files.contents import file_digests

#: What `file_digests` gives for a file that cannot be read.
_UNREADABLE = "unreadable"


def in_both(first: Sequence[Path], second: Sequence[Path]) -> list[tuple[Path, Path]]:
    """Pairs of files of two sets that hold the same bytes, one for each such file of `second`.

    Only files of equal size are read, and digests are remembered between commands. Empty files, and
    those that cannot be read, are left out."""
    sizes = {_size(path) for path in second} & {_size(path) for path in first} - {None, 0}
    mine, others = ([path for path in paths if _size(path) in sizes] for paths in (first, second))
    known = dict(zip(file_digests(mine), mine, strict=True))
    pairs = zip(file_digests(others), others, strict=True)
    return [
        (known[digest], path)
        for digest, path in pairs
        if digest in known and not digest.startswith(_UNREADABLE)
    ]


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None
