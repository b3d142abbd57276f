"""Print a plan as a table, or as JSON with a format version."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from qatspec.diag import Span
from qatspec.plan.changes import Change
from qatspec.plan.model import FORMAT, Plan
from qatspec.plan.status import StepStatus
from qatspec.render import WORD, wrap
from qatspec.spec import unchosen

_REASONS = 3
_NARROWEST = 20
#: Spaces before the last cell where it stands below the others.
_INDENT = 4


def plan_data(plan: Plan, statuses: Sequence[StepStatus]) -> dict[str, Any]:
    """The plan as data for JSON: stable key order, one format version."""
    return {
        "format": FORMAT,
        "name": plan.spec.name,
        "march": plan.spec.march,
        **({"experimental": plan.experimental} if plan.experimental else {}),
        "digest": plan.digest,
        "steps": [_step_json(s) for s in statuses],
    }


def plan_table(plan: Plan, statuses: Sequence[StepStatus], width: int | None = None) -> str:
    """One line a step: its state, digest, what it starts from, and what `run` will do and why. An
    experimental march is named as one.

    width: columns to wrap the last cell at, between words; it stands below the others where a word
    of it would be longer than the rest of the line. None: lines are as long as they are.
    """
    rows = [("step", "state", "digest", "from", "what run does")]
    for item in statuses:
        step = item.step
        first, *others = _deeds(item)
        source = ", ".join(step.inputs) or "-"
        rows.append((step.name, item.state, step.digest[:12], source, first))
        rows += [("", "", "", "", line) for line in others]
        rows += [row for name, states in item.candidates for row in _candidate_rows(name, states)]
    if not any(row[4] for row in rows[1:]):  # everything is cached
        rows[0] = (*rows[0][:4], "")
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    start = sum(widths) + 2 * len(widths)
    below = width is not None and start + _longest_word(rows) > width
    lines = []
    for row in rows:
        front = "".join(f"{cell:{size}}  " for cell, size in zip(row, widths, strict=False))
        if below:
            lines += [front.rstrip()] if front.strip() else []
            front, start = " " * _INDENT, _INDENT
            if not row[4]:
                continue
        for words in _wrapped(row[4], None if width is None else width - start):
            lines.append(f"{front}{words}".rstrip())
            front = " " * start
    head = [f"{plan.spec.name} for {plan.spec.march}"]
    if plan.experimental:
        head += _wrapped(f"{plan.spec.march} is experimental: {plan.experimental}", width)
    return "\n".join([*head, *_batch_sizes(plan), "", *lines])


def _batch_sizes(plan: Plan) -> Iterator[str]:
    """A line for each batch size that the spec leaves to a run."""
    for at, size in plan.spec.chosen_sizes.items():
        yield f"{_dotted(at)}: {size}, chosen by the first run (batch-sizes.json)"
    for at in unchosen(plan.spec):
        yield f"{_dotted(at)}: auto, chosen when `run` begins; digests change with it"


def _dotted(pointer: str) -> str:
    return pointer.strip("/").replace("/", ".")


def _longest_word(rows: Sequence[Sequence[str]]) -> int:
    """Characters of the longest word of the last cells, at least _NARROWEST."""
    return max([_NARROWEST, *(len(word) for row in rows for word in WORD.findall(row[4]))])


def _candidate_rows(
    name: str, states: Sequence[StepStatus]
) -> Iterator[tuple[str, str, str, str, str]]:
    """Lines of a candidate: its stage under its name, and what is run for it alone before."""
    *before, tried = states
    for shown, item in ((f"  {name}: {s.step.name}", s) for s in before):
        yield shown, item.state, item.step.digest[:12], ", ".join(item.step.inputs), _deeds(item)[0]
    source = ", ".join(tried.step.inputs) or "-"
    yield f"  {name}", tried.state, tried.step.digest[:12], source, _deeds(tried)[0]


def _wrapped(words: str, width: int | None) -> list[str]:
    """Words in lines of `width` columns, which a longer word exceeds."""
    if width is None or len(words) <= width:
        return [words]
    return wrap(words, max(width, _NARROWEST))


def _deeds(item: StepStatus) -> list[str]:
    """What `run` does with a step, as lines: "starts from the beginning because spec.yaml:9  ...;
    the old one is kept as .kept/float-0123", which ends the last line."""
    reasons = [_reason(change) for change in item.because]
    first, *others = reasons or [""]
    kept = f"the old one is kept as {item.kept_as}" if item.kept_as else ""
    deed = " because ".join(filter(None, (item.does, first)))
    # a single reason more takes the line that would count it
    shown = others if len(reasons) <= _REASONS + 1 else others[: _REASONS - 1]
    lines = [f"  and {reason}" for reason in shown]
    if len(shown) < len(others):
        lines.append(f"  and {len(others) - len(shown)} more changes")
    *before, last = [deed, *lines]
    return [*before, "; ".join(filter(None, (last, kept)))]


def _step_json(item: StepStatus) -> dict[str, Any]:
    step = item.step
    return {
        "name": step.name,
        "state": item.state,
        "does": item.does,
        "kept_as": item.kept_as,
        "because": [_change_json(change) for change in item.because],
        "digest": step.digest,
        "evaluation": step.evaluation,
        "inputs": list(step.inputs),
        "outputs": list(step.outputs),
        "plugins": [asdict(ref) for ref in step.plugins],
        "keys": dict(step.keys),
        "judged_by": dict(step.judged_by),
        **_candidates_json(item),
    }


def _candidates_json(item: StepStatus) -> dict[str, Any]:
    if not item.candidates:
        return {}
    return {
        "candidates": [
            {"name": name, "steps": [_step_json(state) for state in states]}
            for name, states in item.candidates
        ]
    }


def _change_json(change: Change) -> dict[str, Any]:
    span = change.span
    at = {"file": span.file, "line": span.line, "col": span.col} if span else None
    return {"key": change.key, "text": change.text, "at": at}


def _reason(change: Change) -> str:
    return f"{_location(change.span)}  {change.text}" if change.span else change.text


def _location(span: Span) -> str:
    return f"{span.file}:{span.line}"
