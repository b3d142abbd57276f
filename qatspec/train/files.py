"""Files that are either whole or not there: temporary in the same folder, fsync, rename."""

from __future__ import annotations

import contextlib
import errno
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from qatspec.diag import DiagnosticError, Span
from qatspec.diag.codes import QS903
from qatspec.files.writing import encoded, replacing, sync
from qatspec.source import written

_ROOM = (
    "make space (or choose another --workdir) and run the same command again: earlier results are "
    "intact and the run resumes from its last checkpoint"
)
_HELP = "choose another place, and run the same command again: earlier results are intact"
_PERMISSIONS = "choose another place, or correct the permissions (`ls -ld`)"
#: errno -> (why, what helps)
_REASONS = {
    errno.ENOSPC: ("no space is left on the device", _ROOM),
    errno.EDQUOT: ("the disk quota is used up", _ROOM),
    errno.EFBIG: ("the file would exceed the process's file size limit (ulimit -f)", _ROOM),
    errno.EEXIST: ("a part of the path is a file, not a folder", _HELP),
    errno.EISDIR: ("it is a folder", "move or delete that folder, or give another name"),
    errno.ENOTDIR: ("a part of the path is a file, not a folder", _HELP),
    errno.ELOOP: ("its symbolic links form a loop", _HELP),
    errno.EACCES: ("it may not be written (permissions)", _PERMISSIONS),
    errno.EPERM: ("it may not be written (permissions)", _PERMISSIONS),
    errno.EROFS: ("the file system is read-only", _HELP),
    errno.ENXIO: ("it is a socket, or nothing reads from it", _HELP),
    errno.EPIPE: ("its reader went away", "run the command again"),
}


def write_bytes(path: Path, data: bytes) -> None:
    """Replace `path` by `data`, atomically and durably.

    Raises DiagnosticError QS903 when the disk will not take it; what was at `path` is then
    untouched and the temporary is gone.
    """
    with writing(path) as temporary, temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def write_json(path: Path, value: Any) -> None:
    """Replace `path` by readable JSON, atomically; texts from the environment are written as
    their references. Raises DiagnosticError QS903."""
    text = json.dumps(written(value), indent=2, ensure_ascii=False, allow_nan=False)
    write_bytes(path, encoded(text) + b"\n")


@contextlib.contextmanager
def writing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`, which takes its place when the block ends well (see
    `qatspec.files.replacing`).

    For writers that want a path of their own; `write_bytes` for bytes in hand.
    Raises DiagnosticError QS903 on any OSError of the block; the temporary is removed.
    """
    try:
        with replacing(path) as temporary:
            yield temporary
    except OSError as error:
        raise cannot_write(path, error) from error


def move(source: Path, target: Path) -> None:
    """Rename a file or folder, durably: after a crash it lies in one of the two places.

    Raises DiagnosticError QS903.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        source.rename(target)
        sync(target.parent)
        sync(source.parent)
    except OSError as error:
        raise cannot_write(target, error) from error


def cannot_write(path: Path, error: OSError) -> DiagnosticError:
    """QS903: why the system does not write `path`."""
    why, help_ = _REASONS.get(error.errno or 0, (error.strerror or str(error), _HELP))
    return QS903.error(f"cannot write `{path}`: {why}", help=help_, span=Span(file=str(path)))
