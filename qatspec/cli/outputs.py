"""The one writer of files that `--output` names."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

from qatspec.cli.streams import stdout
from qatspec.files import sweep
from qatspec.train.files import cannot_write, write_bytes

#: Links that lead to one another are followed so often, as Linux does.
_MAX_LINKS = 40
#: Where libraries print to it, the process's descriptor 1 is stderr; `stdout` is the command's.
_STDOUT = 1


def write_output(path: Path, text: str) -> None:
    """Write `text` to the file that `--output` names.

    A file is replaced at once when all of it is written; links are followed and permissions kept.
    `-`, `/dev/stdout`, `/dev/fd/N`, devices and named pipes are written to.

    Raises DiagnosticError QS903, also for a folder.
    """
    if is_stdout(path):
        stdout().write(text)
        stdout().flush()
        return
    try:
        if (descriptor := _descriptor(path)) is not None:
            _write_all(os.dup(descriptor), text)
        elif _is_stream(path):
            _write_all(os.open(path, os.O_WRONLY | os.O_NOCTTY), text)
        else:
            write_bytes(path, text.encode())
            sweep(Path(os.path.realpath(path)).parent)
    except OSError as error:
        raise cannot_write(path, error) from error


def is_stdout(path: Path) -> bool:
    """Does `path` name the command's own output: `-`, `/dev/stdout` or `/dev/fd/1`."""
    return str(path) == "-" or _descriptor(path) == _STDOUT


def _is_stream(path: Path) -> bool:
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)


def _descriptor(path: Path) -> int | None:
    """N where `path` names descriptor N of this process, as /dev/stdout and /dev/fd/N do."""
    current = os.path.abspath(path)  # noqa: PTH100  not resolved: links are looked at one by one
    for _ in range(_MAX_LINKS):
        folder, name = os.path.split(current)
        folder = os.path.realpath(folder)
        if name.isdigit() and re.fullmatch(rf"/proc/{os.getpid()}(/task/\d+)?/fd|/dev/fd", folder):
            return int(name)
        try:
            current = os.path.normpath(Path(folder) / os.readlink(Path(folder) / name))  # noqa: PTH115
        except OSError:
            return None
    return None


def _write_all(descriptor: int, text: str) -> None:
    with os.fdopen(descriptor, "wb") as file:
        file.write(text.encode())
