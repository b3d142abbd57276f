"""Write the file that `--output` names."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from qatspec.cli.output import settings
from qatspec.cli.streams import stdout
from qatspec.diag import DiagnosticError, Span
from qatspec.diag.codes import QS906
from qatspec.files import encoded, sweep
from qatspec.plan.results import BEGUN, RECORD, SUMMARY
from qatspec.train.files import cannot_write, write_bytes

if TYPE_CHECKING:
    from qatspec.spec import Spec

#: Links that lead to one another are followed so often, as Linux does.
_MAX_LINKS = 40
#: Where libraries print to it, the process's descriptor 1 is stderr; `stdout` is the command's.
_STDOUT = 1


def write_output(path: Path, text: str) -> None:
    """Write `text` to the file that `--output` names.

    A file is replaced at once when all of it is written; links are followed and permissions kept.
    `-`, `/dev/stdout`, `/dev/fd/N`, devices and named pipes are written to.

    Raises DiagnosticError: QS903, also for a folder; QS906 for a result of a work directory.
    """
    demand_output(path)
    if is_stdout(path):
        settings().written = True
        stdout().write(text)
        stdout().flush()
        return
    try:
        if (descriptor := _descriptor(path)) is not None:
            _write_all(os.dup(descriptor), text)
        elif _is_stream(path):
            _write_all(os.open(path, os.O_WRONLY | os.O_NOCTTY), text)
        else:
            write_bytes(path, encoded(text))
            sweep(Path(os.path.realpath(path)).parent)
    except OSError as error:
        raise cannot_write(path, error) from error


def demand_output(path: Path, spec: Spec | None = None) -> None:
    """Refuse an output that would replace a file of the user or a result of a run.

    spec: the spec that the command reads, whose files and plugins are not replaced.

    Raises DiagnosticError QS906.
    """
    if not path.is_file():
        return
    if spec is not None and any(_is_same(path, file) for file in _files_of(spec)):
        raise in_the_way(path, "the command reads it", "give another file")
    target = Path(os.path.realpath(path))
    if target.name == SUMMARY or any((target.parent / name).exists() for name in (BEGUN, RECORD)):
        raise in_the_way(path, "it is a result in a work directory", "give another file")


def in_the_way(path: Path, why: str, help_: str) -> DiagnosticError:
    """QS906: a file that is there already is not replaced."""
    return QS906.error(f"`{path}` is not replaced: {why}", help=help_, span=Span(file=str(path)))


def _files_of(spec: Spec) -> Iterator[Path]:
    """The files that a spec consists of, and the plugins that it names."""
    document = spec.document
    yield from (Path(file) for file in document.texts)
    for index, plugin in enumerate(spec.plugins):
        yield Path(document.span(f"/plugins/{index}").file).parent / plugin


def _is_same(path: Path, other: Path) -> bool:
    try:
        return path.samefile(other)
    except OSError:
        return False


def is_stdout(path: Path) -> bool:
    """Return whether `path` is the command's own output: `-`, `/dev/stdout` or `/dev/fd/1`."""
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
        file.write(encoded(text))
