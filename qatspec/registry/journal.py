"""The journal of a step: what its processes read below the folders of file plugins.

Each process appends to one file, which survives a kill.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from qatspec.files import parse_json

#: What tells whether a file is still the one whose state was taken.
Mark = tuple[int, int, int] | None


class Access(NamedTuple):
    """The state of a file when it was read, and its mark then."""

    state: str
    mark: Mark


class Journal:
    """The accesses of the processes of one step, one line each, in a file that each appends to.

    A session is a process that opened the journal, with the workers that it forked. What it knew
    before counts unless it read the same name again.
    """

    def __init__(self, path: Path, known: Iterable[tuple[str, str, Access]]) -> None:
        """Open for appending, beginning with the accesses `known`. Raises OSError."""
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC)
        self._session = os.urandom(8).hex()
        for folder, name, access in known:
            self.append(folder, name, access, before=True)

    def append(self, folder: str, name: str, access: Access, *, before: bool = False) -> None:
        """Add one line in one write, so that lines of several processes never mix."""
        line = [self._session, before, folder, name, *access]
        os.write(self._file, f"{json.dumps(line)}\n".encode())

    def close(self) -> None:
        os.close(self._file)


def add_to_journal(path: Path, folder: str, states: Mapping[str, str]) -> None:
    """Add what an earlier run of the same step read. Raises OSError."""
    journal = Journal(path, known=())
    for name, state in states.items():
        journal.append(folder, name, Access(state, None))
    journal.close()


def read_journal(path: Path) -> dict[str, dict[str, str]]:
    """folder -> name -> state, of everything that the processes of a step read. A name that had
    several states has all of them, which no file ever has again. A line that was cut off is left
    out."""
    sessions: dict[tuple[str, str, str], dict[bool, set[str]]] = {}
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return {}
    for line in lines:
        try:
            session, before, folder, name, state, _ = parse_json(line)
        except (ValueError, TypeError):
            continue
        known = sessions.setdefault((folder, name, session), {})
        known.setdefault(before, set()).add(state)
    merged: dict[str, dict[str, set[str]]] = {}
    for (folder, name, _), known in sessions.items():
        states = known[False] if False in known else known[True]
        merged.setdefault(folder, {}).setdefault(name, set()).update(states)
    return {f: {n: "+".join(sorted(s)) for n, s in names.items()} for f, names in merged.items()}
