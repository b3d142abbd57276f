"""Records of a stage's results, and the repair of results that are damaged.

`begun.json` is written when a stage begins and `step.json` when it is finished, both in the folder
of the stage (see `qatspec.plan.results`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from qatspec.diag import Diagnostic, Span
from qatspec.diag.codes import QS931
from qatspec.plan import Plan, Step, results
from qatspec.plan.checkpoints import SUFFIX, known_digests, sha256_of, sidecar
from qatspec.plan.history import SUFFIX as HISTORY
from qatspec.plan.opened import JOURNAL, opened_by
from qatspec.plan.results import BEGUN, CHECKSUM, RECORD, RECORD_FORMAT, Record, Result
from qatspec.plan.status import needed
from qatspec.source import written
from qatspec.stages import Outcome
from qatspec.train.checkpoint import save_bytes, write_sidecar
from qatspec.train.files import cannot_write, write_bytes, write_json

Tell = Callable[[str | Diagnostic], None]


def begin(folder: Path, step: Step) -> None:
    """Record in `folder` which step its files are going to be made by. Raises DiagnosticError
    QS903."""
    begun = {"format": RECORD_FORMAT, **_identity(step)}
    write_json(folder / BEGUN, begun)
    try:
        (folder / RECORD).unlink(missing_ok=True)
    except OSError as error:
        raise cannot_write(folder / RECORD, error) from error


def write(
    folder: Path,
    step: Step,
    outcome: Outcome,
    seconds: float,
    said: Mapping[str, Any] | None = None,
) -> Record:
    """Record `outcome`, whose files lie in `folder`. said: further keys of the record.

    Raises DiagnosticError QS903."""
    outputs = {}
    for path in outcome.outputs:
        exact = outcome.exact.get(path.name)
        outputs[f"{step.name}/{path.relative_to(folder)}"] = {
            "kind": kind_of(path),
            "size": path.stat().st_size,
            "sha256": sha256_of(path),
            "bit_exact": exact.bit_exact if exact else None,
            "max_lsb": exact.max_lsb if exact else None,
            "compared": exact.compared if exact else None,
        }
    record = {
        "format": RECORD_FORMAT,
        **_identity(step),
        "provenance": dict(step.provenance),
        "gives": dict(outcome.gives),
        "opened": opened_by(step, folder),
        "outputs": outputs,
        "metrics": dict(outcome.metrics),
        "seconds": round(seconds, 3),
        **(said or {}),
    }
    _write(folder, record)
    (folder / JOURNAL).unlink(missing_ok=True)
    return record


def _write(folder: Path, record: Record) -> None:
    """Write a record with its checksum. Raises DiagnosticError QS903."""
    said = written(record)
    write_json(folder / RECORD, {**said, CHECKSUM: results.checksum(said)})


def newly_lost(result: Result, gone: Sequence[str]) -> tuple[str, ...]:
    """The outputs in `gone`, which nothing needs, that were not reported before; the record then
    names them. Raises DiagnosticError QS903."""
    assert result.record is not None
    known = result.record.get("lost", [])
    if set(gone) != set(known):
        _write(result.folder, {**result.record, "lost": sorted(gone)})
    return tuple(name for name in gone if name not in known)


def _identity(step: Step) -> dict[str, Any]:
    """The part of a record that identifies its step."""
    return {
        "stage": step.name,
        "digest": step.digest,
        "keys": dict(step.keys),
        "evaluation": step.evaluation,
        "judged_by": dict(step.judged_by),
    }


def standing(plan: Plan, workdir: Path, step: Step) -> Record | None:
    """The record of a finished step whose needed outputs are intact, judged as the step
    asks; None where there is none."""
    result = results.find(workdir / step.name, step.name)
    if result is None or not result.is_of(step) or not result.is_judged(step):
        return None
    return None if results.lost(result, needed(plan, step.name)) else result.record


def restore(result: Result, tell: Tell) -> tuple[str, ...]:
    """Restore the damaged files of a finished stage from intact twins, and their sidecars.

    Returns the outputs that have none. Raises DiagnosticError QS903."""
    gone = []
    damaged = results.damaged(result)
    for name in damaged:
        path, twin = result.file(name), results.twin(result, name, damaged)
        if twin is None:
            gone.append(name)
            continue
        if name.endswith(SUFFIX):
            save_bytes(twin.read_bytes(), path)
        else:
            write_bytes(path, twin.read_bytes())
        tell(damage(path, f"it is restored from `{twin.name}`"))
    outputs = result.record["outputs"] if result.record else {}
    for name in (n for n in outputs if n.endswith(SUFFIX) and n not in damaged):
        if known_digests(result.file(name)) != [outputs[name]["sha256"]]:
            write_sidecar(result.file(name), [outputs[name]["sha256"]])
            tell(f"{sidecar(result.file(name)).name} was damaged and is written again")
    with contextlib.suppress(OSError):  # what a crash left that came right after the record
        (result.folder / JOURNAL).unlink(missing_ok=True)
    return tuple(gone)


def damage(path: Path, therefore: str) -> Diagnostic:
    """The warning that a file of a finished stage was damaged."""
    return QS931.warning(
        f"`{path.name}` was missing or damaged; {therefore}",
        help="check the disk",
        span=Span(file=str(path)),
    )


_KINDS = {
    ".pth.tar": "checkpoint",
    "-qat.onnx": "qat_onnx",
    "-converted.onnx": "converted_onnx",
    ".program": "program",
    ".bin": "bin",
    ".perf.json": "perf_json",
    ".perf.html": "perf_html",
    "-decisions.json": "decisions",
    HISTORY: "history",
    "-outputs.json": "outputs_json",
    "-outputs.h": "outputs_header",
    "-float.onnx": "handoff_onnx",
    "-mapper.yaml": "handoff_configuration",
    "-scales.json": "handoff_scales",
    "-pre.onnx": "host_onnx",
    "-post.onnx": "host_onnx",
    ".onnx": "runtime_onnx",
    ".tflite": "runtime_tflite",
}


def kind_of(path: Path) -> str:
    """The kind of a file by how its name ends (rule: names of files)."""
    return next(kind for end, kind in _KINDS.items() if path.name.endswith(end))
