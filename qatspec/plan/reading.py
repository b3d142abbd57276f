"""Which results a command reads that runs nothing, and what they differ in from its spec."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from qatspec.plan import results
from qatspec.plan.changes import Change, changes, edits
from qatspec.plan.digest import CANDIDATE, starting_from, with_keys
from qatspec.plan.model import Plan, Step
from qatspec.plan.results import Result, workdir_of

#: What a training ran on: results of this spec, wherever they were made.
_MACHINE = ("device", "threads", "nproc")
#: What computed it, with the plugins of qatspec itself. Results of another version are of the same
#: settings.
_SOFTWARE = ("qatspec", "torch")
_OWN_PLUGIN = "qatspec=="


@dataclass(frozen=True, slots=True)
class ComparedResult:
    """A result of a stage, compared with a spec.

    differs   settings, data and plugins in which it differs from the spec.
    software  versions in which it differs from this installation.
    """

    result: Result
    differs: tuple[Change, ...]
    software: tuple[Change, ...]


def locate(plan: Plan, workdir: Path, stage: str) -> ComparedResult | None:
    """Return the result of a stage: the spec's, in the stage's folder or in `.kept`; where there is
    none, the one in the stage's folder. None where that holds nothing."""
    current = results.find(workdir / stage, stage)
    every = [r for r in (current, *results.kept(workdir, stage)) if r is not None]
    compared = [compare_with_spec(plan, result) for result in every]
    fitting = [c for c in compared if not c.differs]
    if fitting:
        return min(fitting, key=lambda c: (c.result.record is None, len(c.software)))
    return compared[0] if current is not None else None


def compare_with_spec(plan: Plan, result: Result) -> ComparedResult:
    """Compare a result, and those that it was made from, with the spec of `plan`."""
    unique = {change.key: (change, soft) for change, soft in _differences(plan, result)}
    differs = tuple(change for change, soft in unique.values() if not soft)
    return ComparedResult(
        result, differs, tuple(change for change, soft in unique.values() if soft)
    )


def _differences(plan: Plan, result: Result) -> Iterator[tuple[Change, bool]]:
    """(what differs, whether it is software), first of what the result was made from."""
    step = next((s for s in plan.steps if s.name == result.stage), None)
    if step is None:
        yield Change("stages", f"the spec has no stage {result.stage}"), False
        return
    if not result.keys:
        if result.digest != step.digest:
            yield Change("digest", "nothing in its folder says with which settings"), False
        return
    edited = edits(result.edited(step))
    yield from ((change, False) for change in edited)
    machine = {k: result.keys[k] for k in _MACHINE if k in step.keys and k in result.keys}
    tried = {k: v for k, v in result.keys.items() if k.startswith(CANDIDATE) and k in step.keys}
    step = with_keys(step, {**machine, **tried})  # candidates' digests cover the machine too
    for name in step.inputs:
        taken = result.keys.get(f"input:{name}")
        sources = [
            compare_with_spec(plan, r)
            for r in _sources(step, name, taken, workdir_of(result.folder))
        ]
        for source in sorted(sources, key=lambda f: len(f.differs))[:1]:
            step = starting_from(step, name, str(taken))
            yield from ((change, False) for change in source.differs)
            yield from ((change, True) for change in source.software)
    if step.digest == result.digest:
        return
    differing = changes(plan, step.keys, result.keys)
    yield from ((change, _is_software(change.key, step, result)) for change in differing)
    if not differing:
        yield Change("digest", "its record does not say what differs"), False


def _is_software(key: str, step: Step, result: Result) -> bool:
    sources = (str(keys.get(key, "")) for keys in (step.keys, result.keys))
    own_plugin = key.startswith("plugin:") and all(s.startswith(_OWN_PLUGIN) for s in sources)
    return key in _SOFTWARE or own_plugin


def _sources(step: Step, before: str, taken: object, workdir: Path) -> Iterator[Result]:
    """The finished results of `before` that gave what a result of `step` took."""
    current = results.find(workdir / before, before)
    for result in (current, *results.kept(workdir, before)):
        taken_here = results.taken_of(result, step.takes) if result is not None else None
        if result is not None and taken_here is not None and taken_here == taken:
            yield result
