"""Files that are either whole or not there: a temporary in the same folder, fsync, rename."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path

#: How names of files that are being written begin and end; a living process holds a lock on them.
_BEGIN, TEMPORARY = ".qatspec-", ".tmp"


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path, which takes the place of `path` when the block ends well.

    Where `path` is a symbolic link, the file that it leads to is replaced and the link stays.
    Permissions of a file that is replaced are kept.

    Raises OSError: what the system reports, EISDIR for a folder, EINVAL for a device, named pipe or
    socket, EACCES for a file that may not be written, ELOOP for a loop of links.
    """
    target = Path(os.path.realpath(path))
    mode = _mode_to_keep(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary, descriptor = _create(target.parent)
    try:
        yield temporary
        if mode is not None:
            temporary.chmod(mode)
        sync(temporary)
        temporary.replace(target)
        sync(target.parent)
    except OSError as error:
        error.filename = error.filename or str(path)  # a write names no file, as on a full disk
        raise
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        os.close(descriptor)


def encoded(text: str) -> bytes:
    r"""The bytes of a text file. File names that are not UTF-8 hold surrogates, which UTF-8 cannot
    encode: they become `\udcXX`, which JSON reads as the same character."""
    return text.encode("utf-8", "backslashreplace")


def write_file(path: str | os.PathLike[str], data: bytes) -> None:
    """Replace the file at `path` by `data` (see `replacing`). Raises OSError."""
    name = Path(path).name
    if name.startswith(_BEGIN) and name.endswith(TEMPORARY):
        Path(path).write_bytes(data)  # `replacing` gave it, holds a lock on it and will move it
        return
    with replacing(Path(path)) as temporary:
        temporary.write_bytes(data)


def sweep(folder: Path, *, begin: str = _BEGIN) -> None:
    """Remove temporaries in `folder` that no living process is writing. begin: how their names
    begin, "" in a folder that is qatspec's own."""
    for leftover in sorted(folder.glob(f"{begin}*{TEMPORARY}")):
        with contextlib.suppress(OSError):
            descriptor = os.open(leftover, os.O_RDWR | os.O_NOFOLLOW)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                leftover.unlink()
            finally:
                os.close(descriptor)


def sync(path: Path) -> None:
    """Wait until a file or folder is on the disk. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _create(folder: Path) -> tuple[Path, int]:
    """A new file that is locked, with the permissions that a new file has."""
    while True:
        name = f"{_BEGIN}{secrets.token_hex(6)}{TEMPORARY}"
        path = folder / name
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        except FileExistsError:
            continue
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        if path.exists():  # no other process has swept it before it was locked
            return path, descriptor
        os.close(descriptor)


def _mode_to_keep(target: Path) -> int | None:
    """Permissions of the file at `target`, None where there is none. Raises OSError."""
    try:
        status = target.stat()
    except FileNotFoundError:
        return None
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(target))
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "it is not a regular file", str(target))
    if not os.access(target, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(target))
    return stat.S_IMODE(status.st_mode)
