"""What `run` will do with each step in a work directory.

The same answer serves `plan`, which prints it, and `run`, which carries it out.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from qatspec.plan import results
from qatspec.plan.changes import Change, changes, edits
from qatspec.plan.digest import CANDIDATE, starting_from, tried_step, with_keys
from qatspec.plan.history import SUFFIX as HISTORY
from qatspec.plan.model import Plan, PlannedCandidate, Step
from qatspec.plan.results import TRAINING, Result
from qatspec.plan.resume import Point, continuation, describe, resume_point
from qatspec.spec import Trainer


@dataclass(frozen=True, slots=True, kw_only=True)
class StepStatus:
    """What will become of a step.

    state      cached: its result stands. judge: its tensors stand, and the kept checkpoints are
               judged again. changed: results of other settings are in its place. run: there is no
               finished result.
    because    what changed, or which files are damaged.
    does       what `run` will do, in words; kept_as: where it puts what is in the way, "" for
               nothing.
    result     the results of this very step, in its own folder or in `.kept`.
    displaced  other results in its own folder, which move to `.kept`.
    damaged    outputs of a finished result that are not what the stage wrote.
    point      where a training resumes: in `result`, or in `continued`, a training of another
               length. A training of this step without one has no intact checkpoint.
    candidates of a stage that is run in several variants: (name, the status of each step that is
               run in the candidate's work directory, of which the last one is the stage).
    """

    step: Step
    state: Literal["run", "cached", "judge", "changed"]
    because: tuple[Change, ...] = ()
    does: str = ""
    kept_as: str = ""
    result: Result | None = None
    displaced: Result | None = None
    damaged: tuple[str, ...] = ()
    point: Point | None = None
    continued: Result | None = None
    candidates: tuple[tuple[str, tuple[StepStatus, ...]], ...] = ()

    @property
    def is_done(self) -> bool:
        """Return whether the tensors of a finished result are reused."""
        return self.state in ("cached", "judge")

    @property
    def is_spoilt(self) -> bool:
        """Return whether the step has checkpoints, but no intact one."""
        if self.step.name not in TRAINING or self.is_done or self.point is not None:
            return False
        if any(key.startswith(CANDIDATE) for key in self.step.keys):
            return False  # its checkpoints are copies
        return self.result is not None and bool(self.result.checkpoints)


def status(plan: Plan, workdir: str | Path) -> tuple[StepStatus, ...]:
    """The status of every step, in order. A step is looked at as it is when those before it are
    done, as far as they stand already."""
    statuses: list[StepStatus] = []
    for index in range(len(plan.steps)):
        step = _after_done(plan.steps[index], statuses)
        if step.name != plan.tried:
            statuses.append(step_status(plan, step, Path(workdir), statuses))
            continue
        of_candidates = [_of_candidate(c, statuses, Path(workdir)) for c in plan.candidates]
        steps = {f"{CANDIDATE}{s.name}": s.statuses[-1].step.digest for s in of_candidates}
        state = step_status(plan, with_keys(step, steps), Path(workdir), statuses)
        names = tuple((s.name, s.statuses) for s in of_candidates)
        statuses.append(replace(state, candidates=names))
        if state.is_done:
            plan = as_chosen(plan, workdir)
    return tuple(statuses)


@dataclass(frozen=True, slots=True)
class _OfCandidate:
    name: str
    statuses: tuple[StepStatus, ...]


def _of_candidate(
    candidate: PlannedCandidate, before: Sequence[StepStatus], workdir: Path
) -> _OfCandidate:
    """The status of the steps that a candidate does not share with the spec. before: of the steps
    of the spec."""
    of_spec = {state.step.name: state for state in before}
    statuses: list[StepStatus] = []
    for step in candidate.steps:
        step = _after_done(step, statuses)
        same = of_spec.get(step.name)
        if same is not None and same.step.digest == step.digest:
            statuses.append(same)
        else:
            folder = candidate.folder(workdir)
            statuses.append(step_status(candidate.plan, step, folder, statuses))
    return _OfCandidate(candidate.name, tuple(s for s in statuses if s not in before))


def _after_done(step: Step, statuses: Sequence[StepStatus]) -> Step:
    """The step as it is when the finished steps that it starts from stand."""
    for before in (s for s in statuses if s.step.name in step.inputs and s.is_done):
        step = with_input(step, before.result)
    return step


def with_results(plan: Plan, workdir: str | Path) -> Plan:
    """The plan with the digest of each step updated for the finished results in `workdir`. Behind a
    stage with candidates, it is the plan of the one that was chosen."""
    workdir = Path(workdir)
    plan = as_chosen(plan, workdir)
    steps: list[Step] = []
    candidates = plan.candidates
    for step in plan.steps:
        if step.name == plan.tried:
            candidates = tuple(_candidate_with_results(c, steps, workdir) for c in candidates)
            step = tried_step(step, candidates)
        for name in step.inputs:
            step = with_input(step, results.find(workdir / name, name))
        steps.append(step)
    return replace(plan, steps=tuple(steps), candidates=candidates)


def _candidate_with_results(
    candidate: PlannedCandidate, of_spec: Sequence[Step], workdir: Path
) -> PlannedCandidate:
    """A candidate with the digests of its steps updated. of_spec: the updated steps of the spec."""
    digests = {step.name: step.digest for step in of_spec}
    steps: list[Step] = []
    homes: dict[str, Path] = {}
    for step in candidate.plan.steps:
        for name in step.inputs:
            step = with_input(step, results.find(homes[name] / name, name))
        shared = digests.get(step.name) == step.digest
        homes[step.name] = workdir if shared else candidate.folder(workdir)
        steps.append(step)
    return replace(candidate, plan=replace(candidate.plan, steps=tuple(steps)))


def as_chosen(plan: Plan, workdir: str | Path) -> Plan:
    """The plan with the spec of the candidate that was chosen in a work directory, and with its
    steps behind the stage that tried it; the plan itself where none was."""
    if plan.tried is None:
        return plan
    chosen = chosen_name(Path(workdir), plan.tried)
    candidate = next((c for c in plan.candidates if c.name == chosen), None)
    if candidate is None:
        return plan
    number = len(candidate.steps)
    steps = (*plan.steps[:number], *candidate.plan.steps[number:])
    return replace(plan, spec=candidate.plan.spec, steps=steps)


def chosen_name(workdir: Path, stage: str) -> str | None:
    """The name of the candidate whose result is that of a stage; None where there is none."""
    result = results.find(workdir / stage, stage)
    said = result.record.get("chosen") if result is not None and result.record else None
    return said if isinstance(said, str) else None


def with_input(step: Step, before: Result | None) -> Step:
    """The step with the digest that it has when it starts from `before`, a finished result or
    None."""
    taken = results.taken_of(before, step.takes) if before is not None else None
    if before is None or taken is None:
        return step
    return starting_from(step, before.stage, taken)


def step_status(
    plan: Plan, step: Step, workdir: Path, earlier: Sequence[StepStatus] = ()
) -> StepStatus:
    """The status of one step. earlier: of the steps before it, as far as they are not done.

    Raises DiagnosticError QS935 for records of another version of qatspec.
    """
    again = [s.step.name for s in earlier if not s.is_done]
    current = results.find(workdir / step.name, step.name)
    result = _of_step(step, current, results.kept(workdir, step.name))
    displaced = current if current is not result else None
    state = StepStatus(
        step=step,
        state="changed" if displaced is not None and displaced.keys else "run",
        because=_why_displaced(plan, step, displaced, again) if displaced else (),
        kept_as=_kept_as(displaced, workdir),
        result=result,
        displaced=displaced,
    )
    if result is not None and result.record is not None:
        state = _finished(plan, state, result, workdir)
        if state.is_done:
            return replace(state, because=(*state.because, *_may_change(step, earlier)))
    if step.name not in TRAINING:
        return replace(state, does="runs")
    return _training(plan, state, workdir)


def _of_step(step: Step, current: Result | None, kept: Sequence[Result]) -> Result | None:
    """The best result with the digest of the step: evaluated with its settings, finished, or
    begun."""
    same = [r for r in (current, *kept) if r is not None and r.is_of(step)]
    rank = {True: 0, False: 1, None: 2}
    return min(same, key=lambda r: rank[r.is_judged(step)], default=None)


def _why_displaced(
    plan: Plan, step: Step, displaced: Result, again: Collection[str]
) -> tuple[Change, ...]:
    if not displaced.keys:
        return (Change("digest", "nothing in its folder says with which settings it was made"),)
    because = (
        *changes(plan, step.keys, displaced.keys, again),
        *edits(displaced.edited(step)),
    )
    if [change.key for change in because] not in [[f"input:{name}"] for name in again]:
        return because
    text = f"{because[0].text}, unless its result is the same"
    return (replace(because[0], text=text),)


def needed(plan: Plan, stage: str) -> Callable[[str], bool]:
    """Tells whether anything needs an output of a finished stage. Of checkpoints that is the best
    one, and the last one where a later stage starts from it; a history is read by people alone."""
    plans = [plan, *(candidate.plan for candidate in plan.candidates)]
    names = {"", "best", *(s.takes for p in plans for s in p.steps if stage in s.inputs)}

    def is_needed(output: str) -> bool:
        which = output.partition("-checkpoint-")[2].partition(".")[0]
        return which in names and not output.endswith(HISTORY)

    return is_needed


def _finished(plan: Plan, state: StepStatus, result: Result, workdir: Path) -> StepStatus:
    """Return the status of a step that has a finished result: `state`, where needed files of it are
    damaged; else cached, or judge where its metrics are those of other settings."""
    damaged = results.damaged(result)
    lost = results.lost(result, needed(plan, result.stage))
    if lost:
        because = tuple(Change(name, f"{name} is missing or damaged") for name in lost)
        return replace(state, damaged=damaged, because=(*state.because, *because))
    returns = state.displaced is not None or result.folder != workdir / result.stage
    does = f"returns from {_shown(result.folder, workdir)}" if returns else ""
    if result.is_judged(state.step):
        return replace(state, state="cached", damaged=damaged, because=(), does=does)
    old = result.record.get("judged_by", {}) if result.record else {}
    because = (
        *changes(plan, state.step.judged_by, old),
        *edits(result.edited_judging(state.step)),
    )
    does = "; ".join(filter(None, (does, "judges its checkpoints again")))
    return replace(state, state="judge", damaged=damaged, because=because, does=does)


def _may_change(step: Step, earlier: Sequence[StepStatus]) -> Iterator[Change]:
    """Reasons why a result that stands today may not when the steps before it are done."""
    judged = (s.step.name for s in earlier if s.state == "judge" and s.step.name in TRAINING)
    for name in (name for name in judged if name in step.inputs):
        yield Change(f"input:{name}", f"stands unless another checkpoint of {name} is chosen")


def _training(plan: Plan, state: StepStatus, workdir: Path) -> StepStatus:
    """Where a training resumes, if it does."""
    if state.step.name == plan.tried:
        number = len(plan.candidates)
        return replace(state, does=f"runs {number} candidates and keeps the best one")
    trainer = plan.spec.stages[state.step.name].trainer or Trainer()
    if state.result is not None and state.result.checkpoints:
        point = resume_point(state.result, trainer, state.step.evaluation)
        if point is None:
            return replace(state, does="starts from the beginning: no checkpoint is intact")
        does = f"resumes at {describe(point.at, trainer)}"
        if state.result.folder != workdir / state.step.name:
            does += f" from {_shown(state.result.folder, workdir)}"
        return replace(state, does=does, point=point)
    others = [
        *([state.displaced] if state.displaced else []),
        *results.kept(workdir, state.step.name),
    ]
    others = [r for r in others if not r.edited(state.step)]
    if (continued := continuation(plan, state.step, others)) is not None:
        source, point = continued
        does = f"continues at {describe(point.at, trainer)} from {_shown(source.folder, workdir)}"
        return replace(state, does=does, point=point, continued=source)
    return replace(state, does="starts from the beginning" if state.displaced else "starts")


def _kept_as(displaced: Result | None, workdir: Path) -> str:
    if displaced is None or not results.is_worth_keeping(displaced):
        return ""
    return _shown(results.home(workdir, displaced), workdir)


def _shown(folder: Path, workdir: Path) -> str:
    return str(folder.relative_to(workdir))
