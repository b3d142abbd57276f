"""Two plans by meaning: which steps give the same tensors and metrics, and what makes the others
differ."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from qatspec.diag import Span
from qatspec.plan.digest import digest
from qatspec.plan.model import Plan, Step

FORMAT = 1
_ABSENT = object()


@dataclass(frozen=True, slots=True)
class Difference:
    """One value that differs. key: a pointer, or a name of the surroundings ("plugin:vision").
    before, after: None with `absent` where a plan lacks it. steps: those that depend on it."""

    key: str
    before: Any
    after: Any
    absent: Literal["", "before", "after"]
    steps: tuple[str, ...]
    at: tuple[Span | None, Span | None]


@dataclass(frozen=True, slots=True)
class PlanDiff:
    """same: steps with equal digests. judged: steps of the same tensors that are judged by other
    settings. changed: steps of other tensors. removed, added: steps of the first, of the second
    plan alone."""

    same: tuple[str, ...]
    judged: tuple[str, ...]
    changed: tuple[str, ...]
    removed: tuple[str, ...]
    added: tuple[str, ...]
    differences: tuple[Difference, ...]


def diff(first: Plan, second: Plan) -> PlanDiff:
    """What it means to go from one plan to another. What follows from another difference (a step
    that runs again because an earlier one does) is not a difference of its own."""
    before = {step.name: step for step in first.steps}
    after = {step.name: step for step in second.steps}
    both = [name for name in before if name in after]
    return PlanDiff(
        same=tuple(n for n in both if _alike(before[n], after[n]) == (True, True)),
        judged=tuple(n for n in both if _alike(before[n], after[n]) == (True, False)),
        changed=tuple(n for n in both if not _alike(before[n], after[n])[0]),
        removed=tuple(n for n in before if n not in after),
        added=tuple(n for n in after if n not in before),
        differences=_differences(first, second, [(before[n], after[n]) for n in both]),
    )


def diff_text(difference: PlanDiff) -> str:
    """One line a step, one a value that differs with its places."""
    lines = [
        f"{name}: {state}"
        for state, names in (
            ("same", difference.same),
            ("same, judged again", difference.judged),
            ("differs", difference.changed),
            ("only in the first", difference.removed),
            ("only in the second", difference.added),
        )
        for name in names
    ]
    for item in difference.differences:
        old = "absent" if item.absent == "before" else json.dumps(item.before, ensure_ascii=False)
        new = "absent" if item.absent == "after" else json.dumps(item.after, ensure_ascii=False)
        lines += ["", f"{item.key}: {old} -> {new}"]
        if places := " -> ".join(f"{s.file}:{s.line}" for s in item.at if s is not None):
            lines.append(f"  {places}")
        lines.append(f"  steps: {', '.join(item.steps)}")
    return "\n".join(lines)


def diff_data(difference: PlanDiff) -> dict[str, Any]:
    """The same as data for JSON, with a format version."""
    return {
        "format": FORMAT,
        "same": list(difference.same),
        "judged": list(difference.judged),
        "changed": list(difference.changed),
        "removed": list(difference.removed),
        "added": list(difference.added),
        "differences": [
            {
                "key": item.key,
                "before": item.before,
                "after": item.after,
                "absent": item.absent or None,
                "steps": list(item.steps),
                "at": [s and {"file": s.file, "line": s.line, "col": s.col} for s in item.at],
            }
            for item in difference.differences
        ],
    }


def _alike(before: Step, after: Step) -> tuple[bool, bool]:
    """(the same tensors, the same evaluation)."""
    return before.digest == after.digest, before.evaluation == after.evaluation


def _differences(
    first: Plan, second: Plan, pairs: Sequence[tuple[Step, Step]]
) -> tuple[Difference, ...]:
    steps: dict[str, list[str]] = {}
    values: dict[str, tuple[Any, Any]] = {}
    for before, after in pairs:
        mine, theirs = {**before.judged_by, **before.keys}, {**after.judged_by, **after.keys}
        for key in {**mine, **theirs}:
            old, new = mine.get(key, _ABSENT), theirs.get(key, _ABSENT)
            if key.startswith("input:") and before.inputs == after.inputs:
                continue  # what made that step differ is listed itself
            if _ABSENT in (old, new) or digest(old) != digest(new):
                steps.setdefault(key, []).append(before.name)
                values[key] = old, new
    return tuple(_difference(first, second, k, *values[k], steps[k]) for k in sorted(steps))


def _difference(
    first: Plan, second: Plan, key: str, old: Any, new: Any, steps: Sequence[str]
) -> Difference:
    return Difference(
        key=key,
        before=None if old is _ABSENT else old,
        after=None if new is _ABSENT else new,
        absent="before" if old is _ABSENT else "after" if new is _ABSENT else "",
        steps=tuple(steps),
        at=(_span_of(first, key), _span_of(second, key)),
    )


def _span_of(plan: Plan, key: str) -> Span | None:
    return plan.spec.document.span(key.partition("#")[0]) if key.startswith("/") else None
