"""Stages that are run in several variants: their work directories, the choice, and its result.

Each candidate is run as a plan of its own in `<workdir>/candidates/<stage>-<name>`, with its own
lock, records and resuming. Stages before it that are equal to the spec's are not run again: a
symbolic link stands in their place.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from qatspec.engine import kept, record as records
from qatspec.engine.record import Tell
from qatspec.plan import Plan, PlannedCandidate, Step, results
from qatspec.plan.opened import carry_over
from qatspec.plan.results import Record, Result
from qatspec.stages import Outcome
from qatspec.train.checkpoint import save_bytes
from qatspec.train.files import cannot_write, move, write_bytes

#: The folder of data sets that are built, which candidates share.
_DATA = "data"

#: Of a candidate: what a record and a summary say of it.
Row = dict[str, Any]


def own_steps(plan: Plan, candidate: PlannedCandidate) -> tuple[str, ...]:
    """The names of the steps that a candidate does not share with the spec of `plan`."""
    ours = {step.name: step.digest for step in plan.steps if step.name != candidate.stage}
    return tuple(s.name for s in candidate.steps if ours.get(s.name) != s.digest)


def lay_out(plan: Plan, candidate: PlannedCandidate, workdir: Path) -> Path:
    """Make the work directory of a candidate, with links to what it shares. Results of another
    spec that stand in the place of a link are kept.

    Returns the folder. Raises DiagnosticError QS903."""
    folder, separate = candidate.folder(workdir), own_steps(plan, candidate)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(folder, error) from error
    for name in (*(step.name for step in candidate.steps), _DATA):
        entry, target = folder / name, workdir / name
        if name in separate and name != candidate.stage and not _is_real(entry):
            target = _same_step(plan, candidate, name, workdir) or target
            if target != workdir / name:
                _link(entry, Path(os.path.relpath(target, folder)), folder)
                continue
        if name in separate or not target.exists():
            if entry.is_symlink():
                entry.unlink()
            continue
        _link(entry, Path(os.path.relpath(target, folder)), folder)
    return folder


def _is_real(entry: Path) -> bool:
    return entry.exists() and not entry.is_symlink()


def _same_step(plan: Plan, candidate: PlannedCandidate, name: str, workdir: Path) -> Path | None:
    """The finished results of an equal step of an earlier candidate; None where there are none."""
    step = candidate.plan.step(name)
    for other in plan.candidates[: plan.candidates.index(candidate)]:
        folder = other.folder(workdir) / name
        if other.plan.step(name).digest == step.digest and _is_real(folder):
            result = results.find(folder, name)
            if result is not None and result.record is not None and result.is_of(step):
                return folder
    return None


def _link(entry: Path, target: Path, folder: Path) -> None:
    if entry.is_symlink() and entry.readlink() == target:
        return
    result = results.find(entry, entry.name) if entry.name != _DATA else None
    if result is not None and not entry.is_symlink() and results.is_worth_keeping(result):
        move(entry, results.home(folder, result))
    kept.clear(entry)
    try:
        entry.symlink_to(target, target_is_directory=True)
    except OSError as error:
        raise cannot_write(entry, error) from error


def finished(candidate: PlannedCandidate, workdir: Path) -> Result:
    """The finished result of a candidate's stage."""
    result = results.find(candidate.folder(workdir) / candidate.stage, candidate.stage)
    assert result is not None and result.record is not None, "the candidate has been run"
    return result


def choose(rows: Sequence[Row], metric: str) -> str:
    """The name of the best candidate: of the group with the highest mean of a metric over its
    seeds, the run with the highest one; the first one of equals."""
    groups = dict.fromkeys(row["group"] for row in rows)
    means = {g: statistics.fmean(_values(rows, g, metric)) for g in groups}
    best = max(means, key=lambda group: means[group])
    members = [row for row in rows if row["group"] == best]
    return str(max(members, key=lambda row: float(row["metrics"][metric]))["name"])


def groups_of(rows: Sequence[Row]) -> list[Row]:
    """Mean and spread (the standard deviation of a sample) of each metric over the seeds of each
    group; none where no group has several."""
    names = dict.fromkeys(row["group"] for row in rows)
    if len(names) == len(rows):
        return []
    return [
        {
            "name": name,
            "seeds": len([row for row in rows if row["group"] == name]),
            "mean": {m: statistics.fmean(_values(rows, name, m)) for m in rows[0]["metrics"]},
            "spread": {m: _spread(_values(rows, name, m)) for m in rows[0]["metrics"]},
        }
        for name in names
    ]


def _values(rows: Sequence[Row], group: str, metric: str) -> list[float]:
    return [float(row["metrics"][metric]) for row in rows if row["group"] == group]


def _spread(values: Sequence[float]) -> float:
    return statistics.stdev(values) if len(values) > 1 else 0.0


def row_of(candidate: PlannedCandidate, record: Record) -> Row:
    """What a record says of a candidate."""
    return {
        "name": candidate.name,
        "group": candidate.group,
        "digest": record["digest"],
        "metrics": dict(record["metrics"]),
        "seconds": record["seconds"],
    }


def adopt(plan: Plan, step: Step, workdir: Path, metric: str, seconds: float, tell: Tell) -> Record:
    """Make the result of the best candidate the result of the stage, and record all of them.

    step: of the spec. Raises DiagnosticError QS903."""
    made = {c.name: finished(c, workdir) for c in plan.candidates}
    rows = [row_of(c, made[c.name].record or {}) for c in plan.candidates]
    chosen = choose(rows, metric)
    best = made[chosen]
    kept.arrange(plan, step, workdir, tell)
    folder = workdir / step.name
    kept.clear(folder)
    records.begin(folder, step)
    for result in made.values():
        carry_over(result.opened(step), step, folder, judged=True)
    outcome = _copied(best, folder)
    said = {"chosen": chosen, "candidates": rows, "groups": groups_of(rows)}
    record = records.write(folder, step, outcome, seconds, said)
    kept.bound(workdir, tell)
    return record


def _copied(result: Result, folder: Path) -> Outcome:
    """Copy the files of a result into a folder."""
    record: Mapping[str, Any] = result.record or {}
    outputs = []
    for name in record["outputs"]:
        source = result.file(name)
        target = folder / source.name
        if source.name.endswith(".pth.tar"):
            save_bytes(source.read_bytes(), target)
        else:
            write_bytes(target, source.read_bytes())
        outputs.append(target)
    return Outcome(metrics=record["metrics"], outputs=tuple(outputs), gives=record["gives"])
