"""The status of each step in a work directory: to run, cached, to be judged again, or changed (with
the reasons)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from qatspec.diag import Span
from qatspec.plan.digest import digest, starting_from
from qatspec.plan.model import Plan, Step

#: Version of `<stage>/step.json` (qatspec.engine.record writes it).
RECORD_FORMAT = 2
_MISSING = object()
_ADDS = {True: "inside the accumulator", False: "after rounding"}


@dataclass(frozen=True, slots=True)
class Change:
    """One reason for a step to run anew. text says what changed; span where, if in the spec."""

    key: str
    text: str
    span: Span | None = None


@dataclass(frozen=True, slots=True)
class StepStatus:
    """run: there is no result. cached: the result stands. judge: its tensors stand, and the kept
    checkpoints are judged again. changed: it was made with other settings."""

    step: Step
    state: Literal["run", "cached", "judge", "changed"]
    because: tuple[Change, ...] = ()


def status(plan: Plan, workdir: str | Path) -> tuple[StepStatus, ...]:
    """Each step against `<workdir>/<stage>/step.json`, which a finished step leaves behind."""
    found: list[StepStatus] = []
    for step in plan.steps:
        again = {s.step.name: s.state for s in found if s.state != "cached"}
        if not any(again.get(name) in ("run", "changed") for name in step.inputs):
            step = _known_inputs(step, Path(workdir))
        found.append(_status(plan, step, Path(workdir), again))
    return tuple(found)


def settled(plan: Plan, workdir: str | Path) -> Plan:
    """The plan with each step's digest over what the finished steps in `workdir` left for it."""
    steps = tuple(_known_inputs(step, Path(workdir)) for step in plan.steps)
    return replace(plan, steps=steps)


def is_needed(output: str) -> bool:
    """Return whether a result rests on this file: later steps start from the best or the last
    checkpoint; those of other epochs are kept to be judged again."""
    return not re.search(r"-checkpoint-(epoch|step)-\d+\.", output)


def _known_inputs(step: Step, workdir: Path) -> Step:
    """The step over what its finished predecessors left, as far as they are there."""
    for name in step.inputs:
        record = _record(workdir / name / "step.json")
        if record is not None and step.takes in record.get("gives", {}):
            step = starting_from(step, name, record["gives"][step.takes])
    return step


def _status(plan: Plan, step: Step, workdir: Path, again: Mapping[str, str]) -> StepStatus:
    record = _record(workdir / step.name / "step.json")
    if record is None:
        return StepStatus(step, "run")
    if record.get("format") != RECORD_FORMAT:
        text = "made by another version of qatspec, whose results `run` does not replace (QS935)"
        return StepStatus(step, "changed", (Change("format", text),))
    if record["digest"] != step.digest:
        changes = _changes(plan, step.keys, record["keys"], again)
        return StepStatus(step, "changed", changes)
    outputs = filter(is_needed, record.get("outputs", step.outputs))
    lost = [f for f in outputs if not (workdir / f).is_file()]
    if lost:
        return StepStatus(step, "run", tuple(Change(f, f"{f} is gone") for f in lost))
    if record.get("evaluation") != step.evaluation:
        changes = _changes(plan, step.judged_by, record.get("judged_by", {}), {})
        return StepStatus(step, "judge", changes)
    return StepStatus(step, "cached", tuple(_may_change(step, again)))


def _may_change(step: Step, again: Mapping[str, str]) -> Iterator[Change]:
    """Reasons why a result that stands today may not when the steps before it are done."""
    for name in step.inputs:
        if again.get(name) == "judge":
            text = f"stands unless another checkpoint of {name} is chosen"
            yield Change(f"input:{name}", text)


def _record(path: Path) -> Mapping[str, Any] | None:
    try:
        record = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    usable = isinstance(record, dict) and isinstance(record.get("keys"), dict)
    return record if usable and "digest" in record else None


def _changes(
    plan: Plan, new: Mapping[str, Any], old: Mapping[str, Any], again: Mapping[str, str]
) -> tuple[Change, ...]:
    changed: list[Change] = []
    for key in sorted({*old, *new}):
        before, now = old.get(key, _MISSING), new.get(key, _MISSING)
        if _MISSING not in (before, now) and digest(before) == digest(now):
            continue
        if key.startswith("/"):
            span = plan.spec.document.span(key.partition("#")[0])
            changed.append(Change(key, _edited(key, before, now), span))
        else:
            changed.append(Change(key, _surroundings(key, before, now, again)))
    return tuple(changed)


def _edited(key: str, before: Any, now: Any) -> str:
    pointer, _, aspect = key.partition("#")
    if aspect == "order":
        return f"{pointer}: the order of rules changed"
    if aspect == "fused_add":
        return f"{pointer}: it adds {_ADDS.get(now, '')}, before {_ADDS.get(before, '')}"
    if aspect == "special_cases":
        return f"{pointer}: other ops stay in float where `prepare` asks for its special cases"
    if before is _MISSING:
        return f"{key}: {json.dumps(now)} is new"
    if now is _MISSING:
        return f"{key}: {json.dumps(before)} was removed"
    return f"{key}: {json.dumps(before)} -> {json.dumps(now)}"


def _surroundings(key: str, before: Any, now: Any, again: Mapping[str, str]) -> str:
    kind, _, name = key.partition(":")
    if kind == "input":
        return f"{name} runs anew" if name in again else f"it starts from another {name}"
    if kind == "data":
        return f"the files of data.{name} changed"
    if kind == "plugin":
        return f"plugin {name} changed: {_versions(before, now)}"
    if key in ("qatspec", "torch"):
        return f"{key} changed: {_versions(before, now)}"
    return f"{key}: {_plain(before)} -> {_plain(now)}"


def _versions(before: Any, now: Any) -> str:
    old, new = (_plain(v).partition(" ")[0] for v in (before, now))
    return f"{old} -> {new}" if old != new else f"other sources of {new}"


def _plain(value: Any) -> str:
    return "none" if value is _MISSING else str(value)
