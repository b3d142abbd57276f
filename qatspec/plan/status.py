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
from qatspec.plan.digest import starting_from
from qatspec.plan.history import SUFFIX as HISTORY
from qatspec.plan.model import Plan, Step
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

    @property
    def is_done(self) -> bool:
        """Return whether the tensors of a finished result are reused."""
        return self.state in ("cached", "judge")

    @property
    def is_spoilt(self) -> bool:
        """Return whether the step has checkpoints, but no intact one."""
        if self.step.name not in TRAINING or self.is_done or self.point is not None:
            return False
        return self.result is not None and bool(self.result.checkpoints)


def status(plan: Plan, workdir: str | Path) -> tuple[StepStatus, ...]:
    """The status of every step, in order. A step is looked at as it is when those before it are
    done, as far as they stand already."""
    statuses: list[StepStatus] = []
    for step in plan.steps:
        for before in (s for s in statuses if s.step.name in step.inputs and s.is_done):
            step = with_input(step, before.result)
        statuses.append(step_status(plan, step, Path(workdir), statuses))
    return tuple(statuses)


def with_results(plan: Plan, workdir: str | Path) -> Plan:
    """The plan with the digest of each step updated for the finished results in `workdir`."""
    steps = []
    for step in plan.steps:
        for name in step.inputs:
            step = with_input(step, results.find(Path(workdir) / name, name))
        steps.append(step)
    return replace(plan, steps=tuple(steps))


def with_input(step: Step, before: Result | None) -> Step:
    """The step with the digest that it has when it starts from `before`, a finished result or
    None."""
    gives = before.record.get("gives", {}) if before is not None and before.record else {}
    if before is None or step.takes not in gives:
        return step
    return starting_from(step, before.stage, gives[step.takes])


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
    solvers = (plan.spec.stages[s.name].solver for s in plan.steps if stage in s.inputs)
    names = {"", "best", *(solver.pre_step_checkpoint for solver in solvers)}

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
