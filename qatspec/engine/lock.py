"""One work directory, one run (rule: exit codes)."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from qatspec.diag import Span
from qatspec.diag.codes import QS900
from qatspec.train.files import cannot_write

NAME = ".lock"


@contextlib.contextmanager
def locked(workdir: Path) -> Iterator[None]:
    """Hold the work directory, making it if need be. The lock dies with its process.

    Raises DiagnosticError QS900 when another run holds it, QS903 when it cannot be made.
    """
    path = workdir / NAME
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        # opened for reading too, which does not wait where a named pipe stands in its place
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        file = os.fdopen(descriptor, "rb+", buffering=0)
    except OSError as error:
        raise cannot_write(path, error) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise QS900.error(
                f"another run is using the work directory `{workdir}`",
                help="wait for it, or give this run a directory of its own: --workdir DIR",
                span=Span(file=str(workdir)),
            ) from error
        yield
