"""What a plan would do in a work directory: run, cached, or changed because of what."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from qatspec.diag import Span
from qatspec.plan.digest import digest
from qatspec.plan.model import Plan, Step

_MISSING = object()


@dataclass(frozen=True, slots=True)
class Change:
    """One reason for a step to run anew. text says what changed; span where, if in the spec."""

    key: str
    text: str
    span: Span | None = None


@dataclass(frozen=True, slots=True)
class StepStatus:
    """run: there is no result. cached: the result stands. changed: it is of other settings."""

    step: Step
    state: Literal["run", "cached", "changed"]
    because: tuple[Change, ...] = ()


def status(plan: Plan, workdir: str | Path) -> tuple[StepStatus, ...]:
    """Each step against `<workdir>/<stage>/step.json`, which a finished step leaves behind."""
    found: list[StepStatus] = []
    for step in plan.steps:
        again = tuple(s.step.name for s in found if s.state != "cached")
        found.append(_status(plan, step, Path(workdir), again))
    return tuple(found)


def _status(plan: Plan, step: Step, workdir: Path, again: tuple[str, ...]) -> StepStatus:
    record = _record(workdir / step.name / "step.json")
    if record is None:
        return StepStatus(step, "run")
    if record["digest"] == step.digest:
        lost = [f for f in record.get("outputs", step.outputs) if not (workdir / f).is_file()]
        if not lost:
            return StepStatus(step, "cached")
        return StepStatus(step, "run", tuple(Change(f, f"{f} is gone") for f in lost))
    return StepStatus(step, "changed", _changes(plan, step, record["keys"], again))


def _record(path: Path) -> Mapping[str, Any] | None:
    try:
        record = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    usable = isinstance(record, dict) and isinstance(record.get("keys"), dict)
    return record if usable and "digest" in record else None


def _changes(
    plan: Plan, step: Step, old: Mapping[str, Any], again: tuple[str, ...]
) -> tuple[Change, ...]:
    changed: list[Change] = []
    for key in sorted({*old, *step.keys}):
        before, now = old.get(key, _MISSING), step.keys.get(key, _MISSING)
        if _MISSING not in (before, now) and digest(before) == digest(now):
            continue
        if key.startswith("/"):
            span = plan.spec.document.span(key.partition("#")[0])
            changed.append(Change(key, _edited(key, before, now), span))
        else:
            changed.append(Change(key, _surroundings(key, before, now, again)))
    return tuple(changed)


def _edited(key: str, before: Any, now: Any) -> str:
    if key.endswith("#order"):
        return f"{key.partition('#')[0]}: the order of rules changed"
    if before is _MISSING:
        return f"{key}: {json.dumps(now)} is new"
    if now is _MISSING:
        return f"{key}: {json.dumps(before)} was removed"
    return f"{key}: {json.dumps(before)} -> {json.dumps(now)}"


def _surroundings(key: str, before: Any, now: Any, again: tuple[str, ...]) -> str:
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
