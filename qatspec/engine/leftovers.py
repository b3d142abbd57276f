"""What killed runs left behind: removed where no living process uses it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from pathlib import Path

from qatspec.engine.lock import NAME
from qatspec.files import sweep
from qatspec.plan.results import SUMMARY
from qatspec.process import sweep_scratch
from qatspec.process.scratch import PART, PREFIX
from qatspec.spec import STAGES

#: Tells the folder of a smoke run from a work directory that somebody gave such a name.
_SMOKE_MARK = ".smoke"


def sweep_leftovers(workdir: Path, smoke: Path | None) -> None:
    """Remove half-written files and folders of killed runs. The caller holds `workdir`.

    smoke: the folder of smoke runs, removed where one was killed before it left a summary; None:
    `workdir` is that of a smoke run.
    """
    if smoke is None:
        (workdir / _SMOKE_MARK).touch()
    sweep(workdir)
    for stage in STAGES:
        for folder in workdir.glob(f"{stage}*"):
            sweep(folder, begin="")
    sweep_scratch(workdir / "data", PART)
    sweep_scratch(Path(tempfile.gettempdir()), PREFIX)
    if smoke is not None and (smoke / _SMOKE_MARK).exists() and not (smoke / SUMMARY).exists():
        _remove_unheld(smoke)


def _remove_unheld(workdir: Path) -> None:
    """Remove the folder of a killed run: it has a lock, which no living run holds."""
    with contextlib.suppress(OSError):
        descriptor = os.open(workdir / NAME, os.O_RDWR | os.O_NOFOLLOW)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(workdir)
        finally:
            os.close(descriptor)
