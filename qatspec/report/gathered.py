"""What a run left in its work directory, as the report shows it."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

from qatspec.diag import DiagnosticError, Span
from qatspec.diag.codes import QS925
from qatspec.files import read_file, read_json, why_unreadable
from qatspec.plan import results
from qatspec.plan.details import details_path, read_details
from qatspec.plan.history import Entry, history_path, read_history
from qatspec.plan.model import candidate_folder
from qatspec.plan.results import TRAINING
from qatspec.schema.load import summary_schema

_MAX_BYTES = 1 << 28


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A candidate of a stage.

    keys     pointer -> value of the spec, of the candidate's stage.
    history  its entries (qatspec.plan.history). Both are empty where the candidate's folder has
             another result by now.
    """

    name: str
    keys: Mapping[str, Any]
    history: Sequence[Entry]


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A run's results.

    name       of the run on the page: the work directory's, unique among several.
    perf       summary of the perf.json; None where there is none.
    decisions  of the last stage that quantizes (qatspec.graph.Decision as JSON).
    history    stage -> entries (qatspec.plan.history); times: stage -> throughput and memory.
    keys       pointer -> value of the spec, of all stages.
    details    "float" and "integer" -> what the data set told of each class at the run's own
               evaluation (qatspec.plan.details); only those whose metrics are the summary's.
    candidates  of the stage that tried several.
    """

    name: str
    workdir: Path
    summary: Mapping[str, Any]
    perf: Mapping[str, Any] | None
    decisions: Sequence[Mapping[str, Any]]
    history: Mapping[str, Sequence[Entry]]
    times: Mapping[str, Sequence[Mapping[str, Any]]]
    keys: Mapping[str, Any]
    details: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    candidates: Sequence[Candidate] = ()


def gather(workdir: Path, name: str = "") -> Run:
    """Read what the page shows of a work directory.

    name: of the run on the page; "" for the folder's name.

    Raises DiagnosticError QS925 where no run has left a summary, or a file that it names is
    damaged.
    """
    path = workdir / results.SUMMARY
    summary = _read(path)
    for error in Draft202012Validator(dict(summary_schema())).iter_errors(summary):
        raise _no_results(
            path, f"it is not the summary of a run: {error.json_path} is not as written"
        )
    by_kind = {a["kind"]: workdir / a["path"] for a in summary["artifacts"]}
    perf = _part(by_kind["perf_json"], "summary", dict) if "perf_json" in by_kind else None
    decisions = _part(by_kind["decisions"], "decisions", list) if "decisions" in by_kind else []
    keys: dict[str, Any] = {}
    for step in summary["steps"]:
        with contextlib.suppress(DiagnosticError):  # of another version
            result = results.find(workdir / step["stage"], step["stage"])
            keys.update(_keys(result) if result is not None else {})
    return Run(
        name=name or workdir.resolve().name,
        workdir=workdir,
        summary=summary,
        perf=perf,
        decisions=decisions,
        history={s: read_history(history_path(workdir / s, s)) for s in TRAINING},
        times={s: _lines(workdir / "logs" / f"{s}-times.jsonl") for s in TRAINING},
        keys=keys,
        details=_details(workdir, summary["metrics"]),
        candidates=_candidates(workdir, summary.get("tried")),
    )


def _keys(result: results.Result) -> dict[str, Any]:
    """What a stage's tensors and its metrics depend on: data.val decides the metrics alone."""
    judged_by = (result.record or {}).get("judged_by")
    return {**(judged_by if isinstance(judged_by, dict) else {}), **result.keys}


def _candidates(workdir: Path, tried: Mapping[str, Any] | None) -> list[Candidate]:
    """What the folders of the candidates tell beside the summary's rows of them."""
    if tried is None:
        return []
    candidates, stage = [], tried["stage"]
    for row in tried["candidates"]:
        folder = candidate_folder(workdir, stage, row["name"]) / stage
        result = None
        with contextlib.suppress(DiagnosticError):  # of another version
            result = results.find(folder, stage)
        same = result is not None and result.digest == row["digest"]
        candidates.append(
            Candidate(
                name=row["name"],
                keys=result.keys if result is not None and same else {},
                history=read_history(history_path(folder, stage)) if same else (),
            )
        )
    return candidates


def _details(workdir: Path, metrics: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """What the run recorded of the classes, where it is of the checkpoints that it ended with."""
    recorded = {
        result: read_details(details_path(workdir, stage))
        for result, stage in (("float", "float"), ("integer", "convert"))
        if result in metrics
    }
    return {
        result: content
        for result, content in recorded.items()
        if content is not None and content["metrics"] == metrics[result]
    }


def gather_all(workdirs: Sequence[Path]) -> list[Run]:
    """Read several work directories; folders of one name get their parents' names in front."""
    names = [path.resolve().name for path in workdirs]
    if len(set(names)) < len(names):
        names = ["/".join(path.resolve().parts[-2:]) for path in workdirs]
    return [gather(path, name) for path, name in zip(workdirs, names, strict=True)]


def _lines(path: Path) -> list[Mapping[str, Any]]:
    """The objects of a file of JSON lines; a damaged line is omitted."""
    try:
        lines = read_file(path, _MAX_BYTES).splitlines()
    except OSError:
        return []
    entries: list[Mapping[str, Any]] = []
    for line in lines:
        with contextlib.suppress(ValueError, RecursionError):
            entry = json.loads(line)
            if isinstance(entry, dict):
                entries.append(entry)
    return entries


def _read(path: Path) -> Any:
    try:
        return read_json(path, _MAX_BYTES)
    except OSError as error:
        raise _no_results(path, why_unreadable(error)) from error
    except ValueError as error:
        raise _no_results(path, str(error)) from error


def _part(path: Path, key: str, kind: type) -> Any:
    """What a file of the run holds under `key`."""
    content = _read(path)
    if not isinstance(content, dict) or not isinstance(content.get(key), kind):
        raise _no_results(path, f"it has no `{key}`")
    return content[key]


def _no_results(path: Path, why: str) -> DiagnosticError:
    return QS925.error(
        f"no results to report: `{path}`: {why}",
        help="give the work directory of a finished `qatspec run`",
        span=Span(file=str(path)),
    )
