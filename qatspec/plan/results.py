"""The contents of a work directory: the results of each stage, finished or not.

`<workdir>/<stage>/` holds the results of the current spec, and `<workdir>/.kept/<stage>-<digest>/`
those of other settings. In either folder `begun.json` says from what its files are made, and
`step.json`, which is written last, what they are: without it the stage is not finished.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from qatspec.diag import DiagnosticError, Span
from qatspec.diag.codes import QS935
from qatspec.files import read_json
from qatspec.plan.checkpoints import (
    SUFFIX,
    checkpoint_files,
    is_intact,
    read_header,
    sha256_of,
)
from qatspec.plan.model import Step
from qatspec.plan.opened import Opened, edited, opened_by

#: Version of the records.
RECORD_FORMAT = 2
RECORD, BEGUN = "step.json", "begun.json"
#: The summary of a run, at the top of a work directory.
SUMMARY = "summary.json"
#: The key of a record that holds the checksum of the others.
CHECKSUM = "sha256"
KEPT = ".kept"
_LARGEST_RECORD = 64 << 20
#: Stages that train or observe, whose folders hold checkpoints to resume from.
TRAINING = ("float", "calibration", "qat")

Record = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """A folder of results of one stage.

    digest  of the step that it was made by; "" where nothing readable says it.
    keys    the keys of that step; empty where nothing readable says them.
    record  what step.json holds; None where the stage is not finished.
    """

    folder: Path
    stage: str
    digest: str
    keys: Mapping[str, Any]
    record: Record | None = None

    @staticmethod
    def of(folder: Path, stage: str, said: Record, *, finished: bool = True) -> Result:
        """The outputs that a record lists."""
        keys = said.get("keys")
        return Result(
            folder=folder,
            stage=stage,
            digest=str(said.get("digest", "")),
            keys=keys if isinstance(keys, dict) else {},
            record=said if finished else None,
        )

    def is_of(self, step: Step) -> bool:
        """Return whether the tensors are, or are going to be, those of `step`."""
        return self.digest == step.digest and not self.edited(step)

    def is_judged(self, step: Step) -> bool | None:
        """Return whether it is judged as `step` asks; None where it is not finished."""
        if self.record is None:
            return None
        same = self.record.get("evaluation") == step.evaluation
        return same and not self.edited_judging(step)

    def edited(self, step: Step) -> dict[str, str]:
        """What file plugins read when the tensors were made and is another now: "PLUGIN: NAME" ->
        what became of it."""
        if step.watches:  # then what judged it also made it
            return edited((*step.folders, *step.judging_folders), self.opened(step))
        return edited(step.folders, self.opened(step), judged=False)

    def edited_judging(self, step: Step) -> dict[str, str]:
        """The same of what they read to judge the tensors."""
        opened = self.opened(step)
        of_data = edited(step.folders, opened, judged=True)
        return {**of_data, **edited(step.judging_folders, opened)}

    def opened(self, step: Step) -> Opened:
        """What file plugins of `step` read when the result was made, as far as it is made."""
        if self.record is None:
            return opened_by(step, self.folder)
        said = self.record.get("opened")
        return said if isinstance(said, dict) else {}

    @property
    def checkpoints(self) -> list[Path]:
        """Its checkpoints, damaged ones too."""
        return checkpoint_files(self.folder, self.stage)

    def file(self, output: str) -> Path:
        """The path of an output of the record. Records name outputs as `<stage>/<file>`."""
        return self.folder / output.partition("/")[2]


def find(folder: Path, stage: str) -> Result | None:
    """The results in `folder`; None where it holds nothing.

    Raises DiagnosticError QS935 for a record of another version of qatspec: its results are not to
    be replaced unasked.
    """
    record, begun = _read(folder / RECORD), _read(folder / BEGUN)
    if record is not None and _is_complete(record):
        return Result.of(folder, stage, record)
    if begun is not None:
        return Result.of(folder, stage, begun, finished=False)
    checkpoints = checkpoint_files(folder, stage)
    headers = (read_header(path) for path in checkpoints if is_intact(path))
    if (header := next((h for h in headers if h is not None), None)) is not None:
        return Result(folder=folder, stage=stage, digest=header.digest, keys={})
    if checkpoints or (folder / RECORD).exists():
        return Result(folder=folder, stage=stage, digest="", keys={})
    return None


def taken_of(result: Result, takes: str) -> str | None:
    """The sha256 of what a later stage takes of a result: of the weights of `best` and `last`, of a
    program, of the file of an epoch's checkpoint; None where the result is unfinished or has no
    such thing."""
    if result.record is None:
        return None
    taken = result.record.get("gives", {}).get(takes)
    if taken is None and takes not in ("best", "last"):  # whose weights count, not their file
        name = f"{result.stage}/{result.stage}-checkpoint-{takes}{SUFFIX}"
        taken = result.record["outputs"].get(name, {}).get("sha256")
    return None if taken is None else str(taken)


def beside(path: Path) -> Result | None:
    """The results that a file is one of, by the record in its folder; None where there is none.

    Raises DiagnosticError QS935 for a record of another version of qatspec.
    """
    said = _read(path.parent / RECORD) or _read(path.parent / BEGUN)
    outputs = said.get("outputs") if said is not None else None
    first = next(iter(outputs), "") if isinstance(outputs, dict) else ""
    stage = str(said.get("stage", first.partition("/")[0])) if said is not None else ""
    return find(path.parent, stage) if stage else None


def home(workdir: Path, result: Result) -> Path:
    """Where results of other settings are going to be kept: a name that is free."""
    name = f"{result.stage}-{result.digest[:16] or 'unknown'}"
    names = itertools.chain([name], (f"{name}-{number}" for number in itertools.count(2)))
    return next(f for f in (workdir / KEPT / n for n in names) if not f.exists())


def workdir_of(folder: Path) -> Path:
    """The work directory of a folder of results."""
    return folder.parent.parent if folder.parent.name == KEPT else folder.parent


def is_worth_keeping(result: Result) -> bool:
    """Return whether the result is a finished stage or a training with a checkpoint."""
    return result.record is not None or (result.stage in TRAINING and bool(result.checkpoints))


def kept(workdir: Path, stage: str) -> list[Result]:
    """The kept results of a stage, but for those of another version of qatspec."""
    results = []
    for folder in sorted((workdir / KEPT).glob(f"{stage}-*")):
        with contextlib.suppress(DiagnosticError):
            results.append(find(folder, stage) if _is_home(folder, stage) else None)
    return [result for result in results if result is not None]


def damaged(result: Result) -> tuple[str, ...]:
    """Outputs of the record that are missing or have other bytes than the stage wrote."""
    outputs = result.record["outputs"] if result.record else {}
    return tuple(
        name for name, output in outputs.items() if not _is_unchanged(result.file(name), output)
    )


def is_spoilt(result: Result, path: Path) -> bool:
    """Return whether a file in the folder of a result is recorded with other bytes."""
    outputs = result.record["outputs"] if result.record else {}
    output = outputs.get(f"{result.stage}/{path.name}")
    return output is not None and path.exists() and not _is_unchanged(path, output)


def lost(result: Result, is_needed: Callable[[str], bool]) -> tuple[str, ...]:
    """Damaged outputs that something needs, and of which there is no intact twin."""
    spoilt = damaged(result)
    return tuple(n for n in spoilt if is_needed(n) and twin(result, n, spoilt) is None)


def twin(result: Result, output: str, spoilt: Collection[str]) -> Path | None:
    """An intact file of the same bytes as a damaged output: `best` and `last` are written twice."""
    outputs = result.record["outputs"] if result.record else {}
    same = (n for n, o in outputs.items() if o.get("sha256") == outputs[output].get("sha256"))
    return next((result.file(name) for name in same if name not in spoilt), None)


def _is_unchanged(path: Path, output: Mapping[str, Any]) -> bool:
    """Return whether a file has the size and the sha256 of an output in a record."""
    try:
        status = path.stat()
        same_size = status.st_size == output["size"]
        identity = (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
        return same_size and _sha256_once(path, identity) == str(output["sha256"])
    except (OSError, KeyError):
        return False


@lru_cache(maxsize=1 << 14)
def _sha256_once(path: Path, identity: tuple[int, ...]) -> str:
    """The sha256 of a file, read once in a process as long as its identity is the same."""
    return sha256_of(path)


def _is_home(folder: Path, stage: str) -> bool:
    return re.fullmatch(rf"{stage}-\w+(-\d+)?", folder.name) is not None and folder.is_dir()


def checksum(record: Record) -> str:
    """The sha256 of what a record says, itself left out."""
    said = {key: value for key, value in record.items() if key != CHECKSUM}
    text = json.dumps(said, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _is_complete(record: Record) -> bool:
    """Return whether a record holds what is read of it, as it was written. Records of earlier
    versions have no checksum."""
    if CHECKSUM in record and record[CHECKSUM] != checksum(record):
        return False
    outputs, metrics = record.get("outputs"), record.get("metrics")
    return (
        isinstance(outputs, dict)
        and all(_is_output(name, output) for name, output in outputs.items())
        and isinstance(metrics, dict)
        and all(isinstance(value, int | float) for value in metrics.values())
        and all(isinstance(record.get(key, {}), dict) for key in ("keys", "gives", "judged_by"))
        and _is_opened(record.get("opened", {}))
    )


def _is_opened(said: object) -> bool:
    names = list(said.values()) if isinstance(said, dict) else [None]
    return all(isinstance(n, dict) and all(isinstance(s, str) for s in n.values()) for n in names)


def _is_output(name: str, output: object) -> bool:
    inside = ".." not in name and not name.partition("/")[2].startswith("/")
    return (
        inside
        and isinstance(output, dict)
        and isinstance(output.get("size"), int)
        and all(isinstance(output.get(key), str) for key in ("sha256", "kind"))
    )


def _read(path: Path) -> Record | None:
    """The content of a record; None where there is none or it is damaged."""
    try:
        content = read_json(path, _LARGEST_RECORD)
    except (OSError, ValueError):
        return None
    if not isinstance(content, dict) or "format" not in content:
        return None
    if content["format"] != RECORD_FORMAT:
        raise _foreign(path, content["format"])
    return content


def _foreign(path: Path, version: object) -> DiagnosticError:
    return QS935.error(
        f"`{path}` was written by another version of qatspec (record format "
        f"{version}, this one reads {RECORD_FORMAT})",
        help=f"keep `{workdir_of(path.parent)}` for that version, and choose another --workdir "
        "for this one",
        span=Span(file=str(path)),
    )
