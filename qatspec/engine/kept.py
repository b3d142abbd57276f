"""Moves results of other settings to `.kept` and back, and bounds what is kept there.

Every move is one rename, so that a crash leaves each folder in one of two places, and both are
looked at by the next run.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections import Counter
from pathlib import Path

from qatspec.diag import Diagnostic, Span
from qatspec.diag.codes import QS932, QS933
from qatspec.diag.words import file_size
from qatspec.engine.record import Tell
from qatspec.plan import Plan, Step, StepStatus, results, step_status
from qatspec.plan.results import KEPT, Result
from qatspec.train.files import move

#: How much `.kept` holds at most: results of each stage, so that many small results of `compile` do
#: not replace a training, and bytes of all. The oldest are removed beyond it.
KEPT_RESULTS, KEPT_BYTES = 24, 64 << 30
#: Begins the name of a folder that is being removed.
_REMOVED = ".removed-"
_JUDGED = ".judged"


def arrange(plan: Plan, step: Step, workdir: Path, tell: Tell) -> StepStatus:
    """Make `<workdir>/<stage>` the folder of this step: what is there of other settings moves to
    `.kept`, and the step's own results return from there.

    Returns the status afterwards. Raises DiagnosticError QS903, QS934.
    """
    stage_folder = workdir / step.name
    state = step_status(plan, step, workdir)
    if state.displaced is not None:
        _displace(state.displaced, workdir, tell)
    elif state.result is not None and state.result.folder != stage_folder:
        clear(stage_folder)
        move(state.result.folder, stage_folder)
        tell(f"{step.name} returns from {state.result.folder.relative_to(workdir)}")
    elif state.result is not None and state.is_spoilt:
        home = results.home(workdir, state.result)
        kept = _set_aside(stage_folder, home.with_name(f"{home.name}.damaged"))
        tell(_no_checkpoint(step, stage_folder, kept))
    else:
        return state
    return arrange(plan, step, workdir, tell)


def bound(workdir: Path, tell: Tell) -> None:
    """Remove the oldest results of `.kept` beyond its bounds, and report each of them."""
    for leftover in sorted((workdir / KEPT).glob(f"{_REMOVED}*")):
        shutil.rmtree(leftover, ignore_errors=True)
    folders = [f for f in (workdir / KEPT).glob("*") if f.is_dir()]
    newest_first = sorted(folders, key=lambda f: (f.stat().st_mtime_ns, f.name), reverse=True)
    held, numbers = 0, Counter[str]()
    for folder in newest_first:
        stage = _stage_of(folder)
        held, numbers[stage] = held + size_of(folder), numbers[stage] + 1
        if folder != newest_first[0] and (numbers[stage] > KEPT_RESULTS or held > KEPT_BYTES):
            tell(_removal(folder))
            going = folder.with_name(f"{_REMOVED}{folder.name}")
            move(folder, going)
            shutil.rmtree(going, ignore_errors=True)


def judged_folder(workdir: Path, stage: str) -> Path:
    """An empty folder beside a finished stage, whose checkpoints are judged again in it."""
    folder = workdir / f"{stage}{_JUDGED}"
    clear(folder)
    return folder


def complete_exchange(workdir: Path, stage: str) -> None:
    """Put results that were judged again in the place of those that they were made of, which are
    kept. The same for a stage that an earlier version made anew in `<stage>.next`."""
    stage_folder = workdir / stage
    for coming in (workdir / f"{stage}{_JUDGED}", workdir / f"{stage}.next"):
        made = results.find(coming, stage)
        if made is not None and made.record is not None:
            if (replaced := results.find(stage_folder, stage)) is not None:
                _set_aside(stage_folder, results.home(workdir, replaced))
            clear(stage_folder)
            move(coming, stage_folder)
        elif made is not None and coming.suffix == ".next":
            _set_aside(coming, results.home(workdir, made))
        clear(coming)
    clear(workdir / f"{stage}.old")  # what an earlier version was about to remove


def size_of(folder: Path) -> int:
    """Bytes of every file in a folder."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file())


def _displace(result: Result, workdir: Path, tell: Tell) -> None:
    if not results.is_worth_keeping(result):
        clear(result.folder)
        return
    kept = _set_aside(result.folder, results.home(workdir, result))
    what = "" if result.record is not None else "the unfinished training of "
    size = file_size(size_of(kept))
    tell(f"{what}{result.stage} with other settings is kept as {_name(kept)} ({size})")


def _no_checkpoint(step: Step, stage_folder: Path, kept: Path) -> Diagnostic:
    return QS933.warning(
        f"stage {step.name} starts from the beginning: no checkpoint in `{stage_folder}` is "
        f"intact; they are kept as {_name(kept)}",
        help="check the disk; if you have a copy of a checkpoint, replace the contents of "
        f"`{stage_folder}` with it, and run again",
        span=Span(file=str(kept)),
    )


def _removal(folder: Path) -> str | Diagnostic:
    """The message about a folder that is removed: a warning where it holds an unfinished
    training."""
    size = file_size(size_of(folder))
    stage = _stage_of(folder)
    result = results.find(folder, stage)
    if result is None or result.record is not None or stage not in results.TRAINING:
        return f"{_name(folder)} is removed ({size}): it is the oldest of what is kept"
    return QS932.warning(
        f"the unfinished training in {_name(folder)} ({size}) is removed: it is the oldest "
        f"in `{KEPT}`, which holds at most {KEPT_RESULTS} results of a stage and "
        f"{file_size(KEPT_BYTES)}",
        help=f"move folders that you want to keep out of `{KEPT}`",
        span=Span(file=str(folder)),
    )


def _stage_of(folder: Path) -> str:
    return folder.name.partition("-")[0]


def _name(folder: Path) -> str:
    return f"{KEPT}/{folder.name}"


def _set_aside(folder: Path, target: Path) -> Path:
    """Move a folder into `.kept`; the newest one is the last to be removed. Returns `target`."""
    move(folder, target)
    others = [f.stat().st_mtime_ns + 1 for f in target.parent.iterdir() if f != target]
    newest = max(time.time_ns(), *others) if others else time.time_ns()  # the clock may be set back
    with contextlib.suppress(OSError):
        os.utime(target, ns=(newest, newest))
    return target


def clear(folder: Path) -> None:
    """Remove a folder that holds nothing worth keeping."""
    if folder.is_symlink():
        folder.unlink()
    shutil.rmtree(folder, ignore_errors=True)
