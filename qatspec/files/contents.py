"""Digests of file contents, remembered between commands.

Reading 100,000 pictures takes minutes on a slow disk, so the sha256 of a file is kept in one small
database of the user: `$XDG_CACHE_HOME/qatspec/contents-1.sqlite` (`~/.cache` by default). Its key
is what the operating system changes whenever a file's bytes change: size, mtime, ctime and inode;
it holds no path, and may be deleted at any time. A file that changed within the last two seconds is
not remembered: a second change might leave the same times.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sqlite3
import struct
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from qatspec.files.reading import open_file, why_unreadable

_KEY = struct.Struct("<QQqq")
_STABLE_NS = 2_000_000_000
_BLOCK = 1 << 20
#: Reading waits for the disk, so more threads than cores pay off.
_THREADS = 8
#: How long to wait for another process that writes to the database.
_TIMEOUT_S = 5.0
#: What this process has read or looked up.
_known: dict[bytes, str] = {}
#: Absolute paths that `content_digest` was given in this process.
_digested: set[str] = set()


def content_digest(files: Mapping[str, str | os.PathLike[str]], facts: Any = None) -> str:
    """Digest the contents of files, and never their paths: what a data set's `fingerprint` returns.

    files  name -> path. The names are part of the digest: use what the data set itself tells files
           apart by, such as the path relative to the set's folder.
    facts  whatever else decides about the examples, as JSON values (the version of code that
           draws them, for instance).

    Returns a sha256 in hex. A file that cannot be read counts by the reason, so that a set with a
    broken picture has a digest too, which changes when the picture is repaired.
    """
    _digested.update(os.path.abspath(path) for path in files.values())  # noqa: PTH100
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True, allow_nan=False).encode())
    names = sorted(files)
    for name, sha256 in zip(names, file_digests(files[name] for name in names), strict=True):
        digest.update(f"\n{name}\0{sha256}".encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def was_digested(path: str) -> bool:
    """Return whether a file, by its absolute path, is part of a digest of this process."""
    return path in _digested


def file_digest(path: str) -> str:
    """The sha256 of one file in hex, read now; "unreadable: REASON" where it cannot be read."""
    return _read(path)[1]


def file_digests(paths: Iterable[str | os.PathLike[str]]) -> list[str]:
    """The sha256 of each file in hex; "unreadable: REASON" where a file cannot be read."""
    named = [os.fspath(path) for path in paths]
    keys = [_key_of(path) for path in named]
    _look_up({key for key in keys if key is not None} - _known.keys())
    unknown = [p for p, key in zip(named, keys, strict=True) if key is None or key not in _known]
    with ThreadPoolExecutor(min(_THREADS, max(1, len(unknown)))) as pool:
        read = dict(zip(unknown, pool.map(_read, unknown), strict=True))
    stable = {key: sha256 for key, sha256 in read.values() if key is not None}
    _known.update(stable)
    _remember(stable)
    return [
        read[path][1] if path in read else _known[key]  # type: ignore[index]
        for path, key in zip(named, keys, strict=True)
    ]


def _key_of(path: str) -> bytes | None:
    """The key of the present contents of a file; None where the file cannot be read."""
    try:
        return _key(os.stat(path))  # noqa: PTH116  paths are texts here, 100,000 at a time
    except (OSError, ValueError):
        return None


def _key(status: os.stat_result) -> bytes:
    return _KEY.pack(status.st_size, status.st_ino, status.st_mtime_ns, status.st_ctime_ns)


def _read(path: str) -> tuple[bytes | None, str]:
    """(the key to remember the digest by, None for not at all; the digest or the reason)."""
    now = time.time_ns()
    digest = hashlib.sha256()
    try:
        with open_file(path) as file:
            before = os.fstat(file.fileno())
            while block := file.read(_BLOCK):
                digest.update(block)
            after = os.fstat(file.fileno())
    except OSError as error:
        return None, f"unreadable: {why_unreadable(error)}"
    changed = max(after.st_mtime_ns, after.st_ctime_ns)
    stable = _key(before) == _key(after) and now - changed > _STABLE_NS
    return _key(after) if stable else None, digest.hexdigest()


def _look_up(keys: Collection[bytes]) -> None:
    """Load the digests of `keys` from the database."""

    def select(base: sqlite3.Connection) -> None:
        base.execute("CREATE TEMP TABLE asked (key BLOB PRIMARY KEY) WITHOUT ROWID")
        base.executemany("INSERT INTO asked VALUES (?)", ((key,) for key in sorted(keys)))
        for key, sha256 in base.execute("SELECT key, sha256 FROM asked JOIN contents USING (key)"):
            _known[key] = sha256.hex()

    if keys:
        _use_database(select)


def _remember(digests: Mapping[bytes, str]) -> None:
    rows = [(key, bytes.fromhex(sha256)) for key, sha256 in digests.items()]
    if rows:
        _use_database(
            lambda base: base.executemany("INSERT OR REPLACE INTO contents VALUES (?, ?)", rows)
        )


def cache_folder() -> Path | None:
    """Return the folder of what qatspec keeps between commands, None where it cannot be made."""
    try:
        cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        folder = Path(cache, "qatspec")
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except (OSError, RuntimeError):  # RuntimeError: the user has no home
        return None
    return folder


def _use_database(action: Callable[[sqlite3.Connection], object]) -> None:
    """Run `action` in one transaction. Where the database cannot be used (a folder that may not be
    written, a full disk, another process that holds it), nothing is remembered, and files are read
    again next time; one that is damaged is deleted."""
    folder = cache_folder()
    if folder is None:
        return
    path = folder / "contents-1.sqlite"
    try:
        with contextlib.closing(sqlite3.connect(path, timeout=_TIMEOUT_S)) as base, base:
            base.execute(
                "CREATE TABLE IF NOT EXISTS contents (key BLOB PRIMARY KEY, sha256 BLOB NOT NULL) "
                "WITHOUT ROWID"
            )
            action(base)
    except sqlite3.OperationalError:
        return
    except sqlite3.DatabaseError:
        with contextlib.suppress(OSError):
            path.unlink()
