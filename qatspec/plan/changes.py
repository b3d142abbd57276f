"""The differences between a stored result and a step of the plan."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from qatspec.diag import Span
from qatspec.plan.digest import digest
from qatspec.plan.model import Plan
from qatspec.registry.plugins import FILE
from qatspec.source import written

_MISSING = object()
_ADDS = {True: "inside the accumulator", False: "after rounding"}


@dataclass(frozen=True, slots=True)
class Change:
    """One reason why a step runs again. text: what changed; span: its location, if it is in the
    spec."""

    key: str
    text: str
    span: Span | None = None


def changes(
    plan: Plan, new: Mapping[str, Any], old: Mapping[str, Any], again: Collection[str] = ()
) -> tuple[Change, ...]:
    """What differs between the keys `old` of a result and the keys `new` of a step. again: earlier
    steps that run again."""
    changed: list[Change] = []
    for key in sorted({*old, *new}):
        before, now = old.get(key, _MISSING), new.get(key, _MISSING)
        if _MISSING not in (before, now) and digest(before) == digest(written(now)):
            continue
        if key.startswith("/"):
            span = plan.spec.document.span(key.partition("#")[0])
            changed.append(Change(key, _edited(key, before, now), span))
        else:
            changed.append(Change(key, _surroundings(key, before, now, again)))
    return tuple(changed)


def edits(states: Mapping[str, str]) -> tuple[Change, ...]:
    """Files of plugins that changed, as `Result.edited` gives them."""
    return tuple(Change(f"file:{name}", f"plugin {name} {what}") for name, what in states.items())


def _edited(key: str, before: Any, now: Any) -> str:
    pointer, _, aspect = key.partition("#")
    if aspect == "order":
        return f"{pointer}: the order of rules changed"
    if aspect == "environment":
        return f"{pointer}: a variable of the environment has another value"
    if aspect == "fused_add":
        return f"{pointer}: it adds {_ADDS.get(now, '')}, before {_ADDS.get(before, '')}"
    if aspect == "special_cases":
        return f"{pointer}: other ops stay in float where `prepare` asks for its special cases"
    now = written(now)
    if before is _MISSING:
        return f"{key}: {json.dumps(now)} is new"
    if now is _MISSING:
        return f"{key}: {json.dumps(before)} was removed"
    return f"{key}: {json.dumps(before)} -> {json.dumps(now)}"


def _surroundings(key: str, before: Any, now: Any, again: Collection[str]) -> str:
    kind, _, name = key.partition(":")
    if kind == "input":
        return f"{name} runs again" if name in again else f"it starts from another {name}"
    if kind == "candidate":
        return _candidate(name, before, now)
    if kind == "data":
        return f"the files of data.{name} changed"
    if kind == "plugin" and str(now).startswith(f"{name}=={FILE} ") and before is not _MISSING:
        return f"plugin {name} changed"
    if kind == "plugin":
        return f"plugin {name} changed: {_versions(before, now)}"
    if key in ("qatspec", "torch"):
        return f"{key} changed: {_versions(before, now)}"
    return f"{key}: {_plain(before)} -> {_plain(now)}"


def _candidate(name: str, before: Any, now: Any) -> str:
    if before is _MISSING:
        return f"candidate {name} is new"
    return f"candidate {name} " + ("was removed" if now is _MISSING else "changed")


def _versions(before: Any, now: Any) -> str:
    old, new = (_plain(v).partition(" ")[0] for v in (before, now))
    return f"{old} -> {new}" if old != new else f"other sources of {new}"


def _plain(value: Any) -> str:
    return "none" if value is _MISSING else str(value)
