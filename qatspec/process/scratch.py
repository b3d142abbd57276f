"""Temporary folders of one process. Those of killed processes are removed by the next one."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

#: How names of temporary folders begin, and of folders that are being made.
PREFIX = "qatspec-scratch-"
PART = ".part-"
_LOCK = ".qatspec-scratch-lock"  # no name that a folder of a user could hold
#: A folder without a lock is one that is being made, unless it is older than this.
_MAKING_SECONDS = 600


@contextlib.contextmanager
def scratch_folder(parent: Path | None = None, prefix: str = PREFIX) -> Iterator[Path]:
    """Make a temporary folder that is removed at the end of the block: a context manager. If the
    process is killed, `sweep_scratch` of a later one removes it.

    parent  the folder that it is made in; None: the system's folder for temporary files.
    prefix  how its name begins.

    Yields its path. Raises OSError where it cannot be made.
    """
    parent = Path(tempfile.gettempdir()) if parent is None else parent
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
    try:
        with (folder / f"{_LOCK}.new").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            (folder / f"{_LOCK}.new").rename(folder / _LOCK)  # visible once it is held
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def folder_being_made(target: Path) -> Iterator[Path]:
    """Make a folder that appears as a whole or not at all: a context manager.

    target  where the folder is at the end of the block. If another process has made it meanwhile,
            its folder stays.

    Yields the path of an empty folder to fill. Raises OSError where it cannot be made.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with scratch_folder(target.parent, PART) as scratch:
        unfinished = scratch / "contents"
        unfinished.mkdir()
        yield unfinished
        try:
            unfinished.rename(target)
        except OSError:
            if not target.is_dir():
                raise


def sweep_scratch(parent: Path, prefix: str) -> None:
    """Remove this user's folders that `scratch_folder` made in `parent` and no process holds."""
    for folder in parent.glob(f"{prefix}*"):
        with contextlib.suppress(OSError):
            status = folder.lstat()
            is_ours = status.st_uid == os.getuid() and folder.is_dir() and not folder.is_symlink()
            if is_ours and _is_free(folder, time.time() - status.st_mtime):
                shutil.rmtree(folder)


def _is_free(folder: Path, age: float) -> bool:
    """Return whether no living process holds `folder`. Raises OSError."""
    try:
        descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_NOFOLLOW)
    except FileNotFoundError:
        return (folder / f"{_LOCK}.new").exists() and age > _MAKING_SECONDS
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
