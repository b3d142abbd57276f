"""Runs a Plan: cached steps stand, broken-off ones go on, and every end leaves a summary."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from qatspec.diag import Diagnostic, DiagnosticError
from qatspec.diag.words import quote_list
from qatspec.engine import record as records, summary as summaries
from qatspec.engine.lock import locked
from qatspec.plan import Plan, Step, settled, with_keys
from qatspec.registry import registry
from qatspec.spec import Spec
from qatspec.stages import JUDGE, RUN, Context, Outcome
from qatspec.stages.foresight import refuse_early
from qatspec.train.distributed import Group, launch
from qatspec.train.files import sweep
from qatspec.train.process import make_repeatable, pick_device
from qatspec.types import StageEvent

OnEvent = Callable[[StageEvent], None]

#: stages that `nproc` processes share; the others are one process's work
PARALLEL = ("float", "qat")
#: stages that take long, and before which a run looks ahead
TRAINING = ("float", "calibration", "qat")
#: a smoke run: so many optimizer steps a stage and examples a data set
SMOKE_STEPS, SMOKE_EXAMPLES = 2, 8


def run(
    plan: Plan,
    workdir: str | Path,
    *,
    step: str | None = None,
    with_deps: bool = False,
    device: str = "auto",
    nproc: int = 1,
    on_event: OnEvent | None = None,
    resume: bool = True,
    smoke: bool = False,
) -> summaries.Summary:
    """Run the plan's steps in order and give what `<workdir>/summary.json` holds.

    step       this stage alone, from the checkpoint that is there; with_deps: with what it needs.
    on_event   told of everything that happens, as plugins are (qatspec.types.StageEvent).
    resume     False: a broken-off step starts over.
    smoke      two steps a stage on a few examples, in `<workdir>-smoke`.

    Raises DiagnosticError: QS900 (the directory is in use), QS905 (what the step starts from is
    missing), QS926 (no such stage), and what the stages raise.
    """
    workdir = Path(workdir)
    if smoke:
        plan, workdir = _smoke(plan), workdir.with_name(f"{workdir.name}-smoke")
    wanted = _wanted(plan, step, with_deps)
    alone = step is not None and not with_deps
    pick_device(device)
    with locked(workdir):
        return _Run(plan, workdir, wanted, device, nproc, on_event, resume, smoke, alone).walk()


@dataclass
class _Run:
    plan: Plan
    workdir: Path
    wanted: tuple[str, ...]
    device: str
    nproc: int
    on_event: OnEvent | None
    resume: bool
    smoke: bool
    alone: bool
    foreseen: bool = False

    def walk(self) -> summaries.Summary:
        self._emit("run_started", spec=self.plan.spec.name, steps=list(self.wanted))
        entries: list[dict[str, Any]] = []
        try:
            for name in [step.name for step in self.plan.steps]:
                records.settle(self.workdir, name)
                self.plan = settled(self.plan, self.workdir)
                step = self.plan.step(name)
                if step.name in self.wanted:
                    entries.append(self._entry(step))
                    self._step(step, entries[-1])
                elif records.fresh(self.workdir, step):
                    entries.append({**self._entry(step), "status": "cached"})
        finally:
            summary = summaries.build(
                self.plan,
                self.workdir,
                entries,
                device=str(pick_device(self.device)),
                nproc=self.nproc,
            )
            path = summaries.write(self.workdir, summary)
        self._emit("run_finished", summary=str(path))
        return summary

    def _entry(self, step: Step) -> dict[str, Any]:
        return {
            "stage": step.name,
            "status": "failed",
            "digest": step.digest,
            "seconds": 0.0,
            "cached_from": None,
        }

    def _step(self, step: Step, entry: dict[str, Any]) -> None:
        if self.alone:
            self._warn_of_other_inputs(step)
        if (found := records.fresh(self.workdir, step)) is not None:
            shutil.rmtree(self.workdir / f"{step.name}.next", ignore_errors=True)
            entry.update(status="cached", cached_from=f"{step.name}/{records.NAME}")
            self._emit("step_cached", step.name, metrics=found["metrics"])
            return
        started = time.monotonic()
        try:
            self._demand_inputs(step)
            known = records.same_tensors(self.workdir, step)
            if known is None:
                self._foresee(step)
                made = self._make(step, started)
            else:
                made = self._judge(step, known, started)
        except BaseException as error:
            entry["seconds"] = round(time.monotonic() - started, 3)
            self._emit("step_failed", step.name, error=str(error) or type(error).__name__)
            raise
        entry.update(status="run" if known is None else "judged", seconds=made["seconds"])
        self._emit("step_finished", step.name, metrics=made["metrics"], seconds=made["seconds"])

    def _foresee(self, step: Step) -> None:
        """Before a run's first training: what the stages behind it would refuse for certain."""
        if step.name not in TRAINING or self.foreseen:
            return
        job = _Job(self.plan, step.name, self.workdir, self.workdir, self.device, self.smoke)
        refuse_early(job.context(Group()), self.wanted[self.wanted.index(step.name) + 1 :])
        self.foreseen = True

    def _make(self, step: Step, started: float) -> records.Record:
        folder = records.folder_for(self.workdir, step.name)
        job = _Job(self.plan, step.name, self.workdir, folder, self.device, self.smoke)
        resumed = job.context(Group()).resumable() if self.resume else None
        if resumed is None:
            shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True, exist_ok=True)
        sweep(folder)
        self._started(step, resumed.step if resumed else None)
        nproc = self.nproc if step.name in PARALLEL else 1
        outcome: Outcome = launch(
            nproc,
            str(pick_device(self.device)),
            _run_stage,
            job,
            report=partial(self._report, step.name),
        )
        made = records.write(folder, step, outcome, time.monotonic() - started)
        records.settle(self.workdir, step.name)
        return made

    def _judge(self, step: Step, known: records.Record, started: float) -> records.Record:
        """Judge a finished step again whose tensors stand, in a folder beside it."""
        if gone := records.lost(self.workdir, known):
            warning = Diagnostic(
                code="QS936",
                severity="warning",
                message=f"{len(gone)} kept epochs of stage {step.name} are gone or damaged: "
                f"{quote_list(gone)}",
                help="the best of the others is chosen; to have every epoch again, delete "
                f"`{self.workdir / step.name}` and run the stage again",
                at=f"/stages/{step.name}",
            )
            self._emit("log", step.name, message=warning.message, diagnostic=warning)
        folder = self.workdir / f"{step.name}.judged"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        self._started(step, None)
        job = _Job(self.plan, step.name, self.workdir, folder, self.device, self.smoke)
        report = partial(self._report, step.name)
        outcome = JUDGE[step.name](job.context(Group(), report))
        made = records.write(folder, step, outcome, time.monotonic() - started)
        records.settle(self.workdir, step.name)
        return made

    def _warn_of_other_inputs(self, step: Step) -> None:
        """A step alone starts from the result that is there, with a warning where that was made
        with other settings; a whole run makes both anew."""
        for name in step.inputs:
            found = records.whole(self.workdir, name)
            if found is None or found["digest"] == self.plan.step(name).digest:
                continue
            warning = Diagnostic(
                code="QS927",
                severity="warning",
                message=f"stage {step.name} starts from a result of stage {name} that was made "
                "with other settings than the spec has now",
                help="`qatspec plan` says what changed; `--with-deps` makes it anew first",
                at=f"/stages/{step.name}",
            )
            self._emit("log", step.name, message=warning.message, diagnostic=warning)

    def _demand_inputs(self, step: Step) -> None:
        """Raise DiagnosticError QS905, with the command, unless what the step starts from holds."""
        for name in step.inputs:
            if records.whole(self.workdir, name) is not None:
                continue
            there = records.read(self.workdir, name) is not None
            state = "is damaged" if there else "is missing"
            command = f"qatspec run {self.plan.spec.document.path} --workdir {self.workdir}"
            raise DiagnosticError(
                Diagnostic(
                    code="QS905",
                    message=f"stage {step.name} starts from stage {name}, whose result {state}",
                    help=f"run `{command} --step {name}` first, or `{command} --step {step.name} "
                    "--with-deps` for both (with the same --set, if any)",
                    at=f"/stages/{step.name}",
                )
            )

    def _started(self, step: Step, resumed_from: int | None) -> None:
        self._emit(
            "step_started",
            step.name,
            number=self.wanted.index(step.name) + 1,
            total=len(self.wanted),
            resumed_from=resumed_from,
        )

    def _report(self, stage: str, kind: str, data: Mapping[str, Any]) -> None:
        self._emit(kind, stage, **data)

    def _emit(self, kind: str, step: str = "", /, **data: Any) -> None:
        event = StageEvent(kind=kind, step=step, data=data)
        registry().emit(event)
        if self.on_event:
            self.on_event(event)


@dataclass(frozen=True)
class _Job:
    """What another process needs to take part in a stage."""

    plan: Plan
    stage: str
    workdir: Path
    folder: Path
    device: str
    smoke: bool

    def context(
        self, group: Group, report: Callable[[str, Mapping[str, Any]], None] | None = None
    ) -> Context:
        step = self.plan.step(self.stage)
        return Context(
            spec=self.plan.spec,
            stage=self.stage,
            workdir=self.workdir,
            folder=self.folder,
            source=step.inputs[0] if step.inputs else None,
            digests={"step": step.digest, "evaluation": step.evaluation},
            device=pick_device(self.device, group.rank),
            seed=make_repeatable(self.plan.spec.seed, self.stage),
            group=group,
            limit=SMOKE_EXAMPLES if self.smoke else None,
            report=report or (lambda kind, data: None),
        )


def _run_stage(
    group: Group, job: _Job, report: Callable[[str, Mapping[str, Any]], None] | None = None
) -> Outcome:
    _load_file_plugins(job.plan.spec)
    return RUN[job.stage](job.context(group, report))


def _load_file_plugins(spec: Spec) -> None:
    """A spawned process has not loaded the spec's own plugin files yet; it is trusted by now."""
    for number, name in enumerate(spec.plugins):
        at = f"/plugins/{number}"
        registry().include(Path(spec.document.span(at).file).parent / name, at)


def _wanted(plan: Plan, step: str | None, with_deps: bool) -> tuple[str, ...]:
    names = [s.name for s in plan.steps]
    if step is None:
        return tuple(names)
    if step not in names:
        raise DiagnosticError(
            Diagnostic(
                code="QS926",
                message=f"the spec has no stage `{step}`",
                help=f"it has {quote_list(names)}",
                at="/stages",
            )
        )
    needed = {step}
    if with_deps:
        for earlier in reversed(plan.steps):
            if earlier.name in needed:
                needed.update(earlier.inputs)
    return tuple(name for name in names if name in needed)


def _smoke(plan: Plan) -> Plan:
    """The plan with two steps a stage, under digests of its own."""
    stages = {
        name: stage
        if stage.trainer is None
        else replace(stage, trainer=replace(stage.trainer, epochs=None, steps=SMOKE_STEPS))
        for name, stage in plan.spec.stages.items()
    }
    steps = tuple(with_keys(step, {"smoke": SMOKE_STEPS}) for step in plan.steps)
    return replace(plan, spec=replace(plan.spec, stages=stages), steps=steps)
