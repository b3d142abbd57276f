"""What a finished step leaves behind, and whether it still holds.

`<workdir>/<stage>/step.json` is written last: a step without one is not finished. A step that is
run anew while the results of other settings are there works in `<stage>.next` and changes places
when it is done, so that a failure costs nothing that was had.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qatspec.diag import Diagnostic, DiagnosticError, Span
from qatspec.plan import RECORD_FORMAT, Step, is_needed
from qatspec.stages import Outcome
from qatspec.train.files import sha256_of, write_json

NAME = "step.json"

Record = Mapping[str, Any]


def read(workdir: Path, stage: str) -> Record | None:
    """The record of a finished step; None where there is none or it is damaged.

    Raises DiagnosticError QS935 for a record of another version of qatspec: its results are not
    to be replaced unasked."""
    path = workdir / stage / NAME
    try:
        record = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    if not isinstance(record, dict):
        return None
    if record.get("format") != RECORD_FORMAT:
        raise _foreign(path, record.get("format"))
    return record


def same_tensors(workdir: Path, step: Step) -> Record | None:
    """The step's record if its tensors stand: whole, and of the same digest."""
    record = whole(workdir, step.name)
    return record if record is not None and record["digest"] == step.digest else None


def fresh(workdir: Path, step: Step) -> Record | None:
    """The step's record if it may stand: the same tensors, judged by the same settings."""
    record = same_tensors(workdir, step)
    return record if record is not None and record["evaluation"] == step.evaluation else None


def whole(workdir: Path, stage: str) -> Record | None:
    """The record of a step whose every output that its result rests on is intact."""
    record = read(workdir, stage)
    if record is None or any(is_needed(name) for name in lost(workdir, record)):
        return None
    return record


def lost(workdir: Path, record: Record) -> list[str]:
    """Outputs of a step that are gone, or that have not the size and sha256 that they had."""
    return [
        name
        for name, output in record["outputs"].items()
        if not (path := workdir / name).is_file()
        or path.stat().st_size != output["size"]
        or sha256_of(path) != output["sha256"]
    ]


def write(folder: Path, step: Step, outcome: Outcome, seconds: float) -> Record:
    """Record `outcome`, whose files lie in `folder`. Raises DiagnosticError QS903."""
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
        "digest": step.digest,
        "keys": dict(step.keys),
        "evaluation": step.evaluation,
        "judged_by": dict(step.judged_by),
        "provenance": dict(step.provenance),
        "gives": dict(outcome.gives),
        "outputs": outputs,
        "metrics": dict(outcome.metrics),
        "seconds": round(seconds, 3),
    }
    write_json(folder / NAME, record)
    return record


_KINDS = {
    ".pth.tar": "checkpoint",
    "-qat.onnx": "qat_onnx",
    "-converted.onnx": "converted_onnx",
    ".program": "program",
    ".bin": "bin",
    ".perf.json": "perf_json",
    ".perf.html": "perf_html",
    "-decisions.json": "decisions",
    "-outputs.json": "outputs_json",
    "-outputs.h": "outputs_header",
    "-pre.onnx": "host_onnx",
    "-post.onnx": "host_onnx",
}


def kind_of(path: Path) -> str:
    """The kind of a file by how its name ends (contracts 21)."""
    return next(kind for end, kind in _KINDS.items() if path.name.endswith(end))


def _foreign(path: Path, version: object) -> DiagnosticError:
    return DiagnosticError(
        Diagnostic(
            code="QS935",
            message=f"`{path}` was written by another version of qatspec (record format "
            f"{version}, this one reads {RECORD_FORMAT})",
            help="keep the results and choose another --workdir, or delete "
            f"`{path.parent}` to make them anew",
            span=Span(file=str(path)),
        )
    )


def folder_for(workdir: Path, stage: str) -> Path:
    """Where the step may write: its own folder, or `<stage>.next` beside finished results."""
    own = workdir / stage
    return workdir / f"{stage}.next" if (own / NAME).exists() else own


def settle(workdir: Path, stage: str) -> None:
    """Put finished results of `<stage>.next` (made anew) or `<stage>.judged` (judged again) in
    their place; this completes an exchange that was interrupted."""
    own, going = workdir / stage, workdir / f"{stage}.old"
    for coming in (workdir / f"{stage}.next", workdir / f"{stage}.judged"):
        if (coming / NAME).exists():
            if own.exists():
                shutil.rmtree(going, ignore_errors=True)
                own.rename(going)
            coming.rename(own)
    shutil.rmtree(going, ignore_errors=True)
