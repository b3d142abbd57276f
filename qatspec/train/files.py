"""Files that are either whole or not there: temporary in the same folder, fsync, rename."""

from __future__ import annotations

import contextlib
import errno
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from qatspec.diag import Diagnostic, DiagnosticError, Span
from qatspec.source import written

#: ends the name of a file that is still being written; leftovers of a kill are swept by `sweep`
TEMPORARY = ".tmp"

_FULL = {
    errno.ENOSPC: "no space is left on the device",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "the file would exceed the process's file size limit (ulimit -f)",
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
    write_bytes(path, text.encode() + b"\n")


@contextlib.contextmanager
def writing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`, which takes its place when the block ends well.

    For writers that want a path of their own; `write_bytes` for bytes in hand.
    Raises DiagnosticError QS903 on any OSError of the block; the temporary is removed.
    """
    temporary = path.with_name(path.name + TEMPORARY)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        _sync(temporary)
        temporary.replace(path)
        _sync(path.parent)
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def move(source: Path, target: Path) -> None:
    """Rename a file or folder, durably: after a crash it lies in one of the two places.

    Raises DiagnosticError QS903.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        source.rename(target)
        _sync(target.parent)
        _sync(source.parent)
    except OSError as error:
        raise cannot_write(target, error) from error


def sweep(folder: Path) -> None:
    """Remove temporaries that a killed run left in `folder`."""
    for leftover in sorted(folder.glob(f"*{TEMPORARY}")):
        leftover.unlink(missing_ok=True)


def cannot_write(path: Path, error: OSError) -> DiagnosticError:
    """QS903: what the disk said of `path`."""
    why = _FULL.get(error.errno or 0, error.strerror or str(error))
    return DiagnosticError(
        Diagnostic(
            code="QS903",
            message=f"cannot write `{path}`: {why}",
            help="make room (or choose another --workdir) and run the same command again: "
            "earlier results are intact and the run goes on from its last checkpoint",
            span=Span(file=str(path)),
        )
    )


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
