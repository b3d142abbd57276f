"""What the code of a file plugin read below its folder: names, and the state of each.

A name is relative to the folder, with forward slashes. Its state is the sha256 of a file, "absent"
for one that was looked for and is not there, and for a folder ("frames/") the digest of the names
in it. The name "**" stands for every file below the folder. "**/?" says that code asks which files
are there; "a.json/?" is such a file, whose state is that it is there. "a.png/=" was read by a data
set for the validation alone, so that another content changes metrics and no tensors.
"""

from __future__ import annotations

import hashlib
import os
import sys
import sysconfig
from collections.abc import Iterable
from functools import cache
from pathlib import PurePosixPath

from qatspec.files import file_digest, file_digests, was_digested

WHOLE = "**"
NAMES = "**/?"
ABSENT = "absent"
PRESENT = "present"
#: Ends of names; no file has a name below another file.
IS_THERE, JUDGED = "/?", "/="
#: Folders that hold no sources.
_LEFT_OUT = frozenset({"__pycache__", ".git"})
#: Files that mark a folder as a work directory of qatspec, or as a Python environment.
_MARKS = (".lock", "pyvenv.cfg")


def state_of(folder: str, name: str) -> str:
    """The state that a name below `folder` has now."""
    if name in (WHOLE, NAMES):
        return name
    name = name.removesuffix(JUDGED)
    path = os.path.join(folder, name)  # noqa: PTH118  texts, as audit events have them
    if name.endswith(IS_THERE):
        return PRESENT if os.path.lexists(path.removesuffix(IS_THERE)) else ABSENT
    if name.endswith("/") or not name:
        try:
            entries = sorted(os.listdir(path))  # noqa: PTH208
        except OSError:
            return ABSENT
        return _digest_of_names(entry for entry in entries if not _is_left_out(path, entry))
    return file_digest(path) if os.path.lexists(path) else ABSENT


def states_of(folder: str, names: Iterable[str]) -> dict[str, str]:
    """The states of many names. Files that have not changed since they were digested are not read
    again."""
    paths = {n: os.path.join(folder, n.removesuffix(JUDGED)) for n in names}  # noqa: PTH118
    files = [n for n, p in paths.items() if n != WHOLE and os.path.lexists(p) and p[-1:] != "/"]
    read = dict(zip(files, file_digests(paths[n] for n in files), strict=True))
    return {name: read.get(name) or state_of(folder, name) for name in paths}


def files_below(folder: str) -> list[str]:
    """The name of every file below `folder`, sorted: without compiled Python, git's own, work
    directories of qatspec, Python environments, and files that a data set digests."""
    fresh: list[str] = []
    for parent, folders, names in os.walk(folder):
        folders[:] = [n for n in folders if not _is_left_out(parent, n)]
        paths = (os.path.join(parent, n) for n in names)  # noqa: PTH118
        fresh += [os.path.relpath(p, folder) for p in paths if not was_digested(p)]
    return sorted(name.replace(os.sep, "/") for name in fresh)


def names_below(folder: str) -> list[str]:
    """The name of every file and folder below `folder`, as names of what is there."""
    files = files_below(folder)
    parents = {parent.as_posix() for name in files for parent in PurePosixPath(name).parents}
    return [f"{name}{IS_THERE}" for name in sorted({*files, *parents} - {"."})]


@cache
def installed_folders() -> tuple[str, ...]:
    """Folders of Python itself and of installed packages, which are no plugin's sources."""
    paths = [*sysconfig.get_paths().values(), sys.prefix, sys.base_prefix]
    return tuple(dict.fromkeys(os.path.realpath(path) for path in paths))


def _is_left_out(parent: str, name: str) -> bool:
    marks = (os.path.join(parent, name, mark) for mark in _MARKS)  # noqa: PTH118
    return name in _LEFT_OUT or any(os.path.lexists(mark) for mark in marks)


def _digest_of_names(names: Iterable[str]) -> str:
    text = "\0".join(sorted(names))
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
