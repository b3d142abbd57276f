"""Walks through a plan: finished steps are skipped, interrupted ones resume, and every end leaves a
summary."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from qatspec.diag.codes import QS905, QS927, QS936
from qatspec.diag.words import quote_list
from qatspec.engine import kept, record as records, summary as summaries
from qatspec.engine.advice import Adviser
from qatspec.engine.candidates import adopt
from qatspec.engine.foreseeing import of_candidate, trials_of_candidates
from qatspec.engine.history import History
from qatspec.engine.job import Job, run_stage
from qatspec.engine.parallel import Call, devices_of, run_all
from qatspec.engine.reporting import Reporter
from qatspec.engine.resuming import continue_from, lay_out
from qatspec.plan import (
    Plan,
    PlannedCandidate,
    Step,
    results,
    status,
    step_status,
    with_results,
)
from qatspec.plan.checkpoints import checkpoint_files
from qatspec.plan.opened import carry_over
from qatspec.plan.results import RECORD, TRAINING, Record, Result
from qatspec.plan.status import StepStatus, needed
from qatspec.process import interrupt
from qatspec.process.interrupt import Interrupted
from qatspec.registry import registry
from qatspec.source import written
from qatspec.spec import Trainer
from qatspec.spec.advice import advise
from qatspec.stages import Outcome
from qatspec.stages.advice import advise_on_inputs
from qatspec.stages.rehearsal import preflight
from qatspec.train.checkpoint import Checkpoint
from qatspec.train.distributed import ALONE, Ranks
from qatspec.train.process import pick_device

#: Stages that several processes share; the others are one process's work.
PARALLEL = ("float", "calibration", "qat", "convert")
#: Stages with a history.
OBSERVED = ("float", "calibration", "qat")


@dataclass
class Walk:
    """A run of a plan in a work directory, which the caller holds (see `qatspec.engine.run`).

    wanted   names of the steps to run. alone: one step, without what it needs.
    jobs     number of candidates that run at the same time.
    foreseen the first training has tried what the stages behind it would refuse.
    advises  advice is given. try_one: runs one candidate, in any process.
    """

    plan: Plan
    workdir: Path
    wanted: tuple[str, ...]
    device: str
    ranks: Ranks | None
    reporter: Reporter
    resume: bool
    smoke: bool
    profile: bool
    alone: bool
    track: Sequence[str]
    jobs: int | None = None
    foreseen: bool = False
    advises: bool = True
    try_one: Callable[..., None] | None = None

    def walk(self) -> summaries.Summary:
        """Run the wanted steps in order and return the summary."""
        self.reporter.emit(
            "run_started",
            spec=self.plan.spec.name,
            steps=list(self.wanted),
            workdir=str(self.workdir.resolve()),
            digest=self.plan.digest,
            settings=written({k: v for step in self.plan.steps for k, v in step.keys.items()}),
            track=list(self.track),
        )
        entries: list[dict[str, Any]] = []
        asked = self.plan
        try:
            names = [step.name for step in self.plan.steps]
            for name in names:
                kept.complete_exchange(self.workdir, name)
            for name in names:
                interrupt.check()
                if name in self.wanted and self.alone:
                    self._put_inputs_in_place(name)
                self.plan = with_results(asked, self.workdir)
                step = self.plan.step(name)
                if name in self.wanted:
                    entries.append(self._entry(step))
                    self._step(step, entries[-1])
                elif self._stands(step, entries):
                    entries.append({**self._entry(step), "status": "cached"})
        finally:
            summary = summaries.build(
                asked,
                self.workdir,
                entries,
                device=str(pick_device(self.device)),
                nproc=self.ranks.world if self.ranks else 1,
                smoke=self.smoke,
            )
            path = summaries.write(self.workdir, summary)
        self.reporter.emit("run_finished", summary=str(path))
        return summary

    def _stands(self, step: Step, before: Sequence[Record]) -> bool:
        """Return whether the result of a stage is reused, and so are the results that it starts
        from."""
        ours = {entry["stage"] for entry in before}.issuperset(step.inputs)
        return ours and records.standing(self.plan, self.workdir, step) is not None

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
        started = time.monotonic()
        try:
            state = step_status(self.plan, step, self.workdir)
            if state.state == "cached":
                record = self._put_in_place(step).record or {}
            elif state.state == "judge":
                record = self._judge(step, self._put_in_place(step), started)
            else:
                self._demand_inputs(step)
                if step.name == self.plan.tried:
                    record = self._try_candidates(step, started)
                else:
                    self._foresee(step, state)
                    record = self._make(step, started)
        except BaseException as error:
            entry["seconds"] = round(time.monotonic() - started, 3)
            if isinstance(error, Interrupted):
                entry["status"], error.stage = "interrupted", step.name
            words = str(error) or type(error).__name__
            self.reporter.emit("step_failed", step.name, error=words, status=entry["status"])
            raise
        if state.state == "cached":
            entry.update(status="cached", cached_from=f"{step.name}/{RECORD}")
            self.reporter.emit("step_cached", step.name, metrics=record["metrics"])
            return
        status = "judged" if state.is_done else "run"
        entry.update(status=status, seconds=record["seconds"], digest=record["digest"])
        self.reporter.emit(
            "step_finished", step.name, metrics=record["metrics"], seconds=record["seconds"]
        )

    def _foresee(self, step: Step, state: StepStatus) -> None:
        """Before a run's first training: what the stages behind it would refuse for certain."""
        if step.name not in TRAINING or self.foreseen:
            return
        job = self._job(step, self.workdir)
        resumes = state.point is not None and self.resume
        there = checkpoint_files(state.result.folder, step.name) if state.result and resumes else []
        present = sum(path.stat().st_size for path in there)
        later = self._later(step)
        report = partial(self.reporter.report, step.name)
        context = job.context(ALONE, report)
        self.reporter.emit("rehearsal", step.name, stages=[step.name, *later])
        preflight(context, later, present)
        if self.plan.tried in later:
            self._foresee_candidates(later, step.name)
        self.foreseen = True
        if self.advises:
            wanted = (step.name, *later)
            of_inputs = advise_on_inputs(context) if "qat" in wanted else ()
            for advice in (*advise(self.plan.spec), *of_inputs):
                if advice.stage in wanted:
                    self.reporter.advise(self.plan.spec, advice.stage, [advice])

    def _later(self, step: Step) -> tuple[str, ...]:
        """The wanted steps behind a step."""
        return self.wanted[self.wanted.index(step.name) + 1 :]

    def _foresee_candidates(self, later: Sequence[str], first: str | None) -> None:
        """What the candidates of a stage would refuse, before any of them trains. first: the stage
        that trains before them, with the spec's own settings tried."""
        for trial in trials_of_candidates(self.plan, self.workdir, later, first):
            report = partial(self.reporter.report, f"{self.plan.tried}/{trial.candidate.name}")
            job = self._job(trial.candidate.plan.step(trial.first), self.workdir)
            job = replace(job, plan=trial.candidate.plan)
            with of_candidate(trial.candidate):
                preflight(job.context(ALONE, report), trial.later)

    def _make(self, step: Step, started: float) -> Record:
        folder = self.workdir / step.name
        job = self._job(step, folder)
        self._prepare(step, folder)
        resumed = job.context(ALONE).resumable()
        self._started(step, resumed.step if resumed else None)
        outcome = self._perform(step, job, resumed=resumed)
        return records.write(folder, step, outcome, time.monotonic() - started)

    def _try_candidates(self, step: Step, started: float) -> Record:
        """Run the candidates of a stage, and make the result of the best one that of the stage."""
        assert self.try_one is not None, "candidates try no others"
        self._started(step, None)
        if not self.foreseen:
            self._foresee_candidates(self._later(step), None)
            self.foreseen = True
        at_once = 1 if self.ranks is not None else self.jobs
        jobs = devices_of(self.device, at_once, len(self.plan.candidates))
        for candidate in self.plan.candidates if len(jobs) == 1 else ():
            interrupt.check()
            self.try_one(
                on_event=partial(self.reporter.forward, candidate.name),
                device=self.device,
                ranks=self.ranks,
                **self._of_candidate(candidate),
            )
        if len(jobs) > 1:
            calls = [
                Call(c.name, {"ranks": None, **self._of_candidate(c)}) for c in self.plan.candidates
            ]
            run_all(self.try_one, calls, jobs, self.reporter.forward)
        self.plan = with_results(self.plan, self.workdir)
        step = self.plan.step(step.name)
        metric = registry().dataset(self.plan.spec.data["val"].dataset.type).metric
        tell = partial(self.reporter.tell, step.name)
        return adopt(self.plan, step, self.workdir, metric, time.monotonic() - started, tell)

    def _of_candidate(self, candidate: PlannedCandidate) -> dict[str, Any]:
        """Arguments of `run_candidate`, of which every candidate was tried."""
        return {
            "plan": self.plan,
            "candidate": candidate,
            "workdir": self.workdir,
            "resume": self.resume,
            "smoke": self.smoke,
            "profile": self.profile,
        }

    def _perform(
        self,
        step: Step,
        job: Job,
        *,
        resumed: Checkpoint | None = None,
        judged: Path | None = None,
    ) -> Outcome:
        """What the stage makes, or the evaluation alone of the results in `judged`, by all
        processes that share it."""
        report = partial(self.reporter.report, step.name)
        compute: Callable[..., Outcome] = partial(run_stage, ALONE, report=report)
        if self.ranks is not None and step.name in PARALLEL:
            compute = partial(self.ranks.together, run_stage, report=report)
        if step.name not in OBSERVED:
            return compute(job, judged is not None)
        history = History(job.folder, step.name, resumed=resumed, judged=judged)
        device = pick_device(self.device)
        trains_qat = step.name == "qat" and judged is None and self.advises
        adviser = Adviser.of(self.plan.spec, self.workdir, device) if trains_qat else None
        with self.reporter.recording(history, step.digest, device, adviser):
            outcome = compute(job, judged is not None)
        return replace(outcome, outputs=(*outcome.outputs, history.path))

    def _job(self, step: Step, folder: Path) -> Job:
        return Job(
            self.plan,
            step.name,
            self.workdir,
            folder,
            self.device,
            self.smoke,
            torch.get_num_threads(),
            self.profile,
        )

    def _prepare(self, step: Step, folder: Path) -> None:
        """Make the folder of a step ready to work in: what is there of other settings is set aside,
        and what a training resumes from is in place."""
        tell = partial(self.reporter.tell, step.name)
        state = kept.arrange(self.plan, step, self.workdir, tell)
        trainer = self.plan.spec.stages[step.name].trainer or Trainer()
        begun = state.result is not None and state.result.record is None and state.point is None
        if begun or not self.resume:
            kept.clear(folder)
        records.begin(folder, step)
        if self.resume and state.continued is not None and state.point is not None:
            continue_from(folder, step, state.continued, state.point, trainer)
            carry_over(state.continued.opened(step), step, folder, judged=True)
            tell(f"{step.name} {state.does}")
        elif self.resume and state.point is not None:
            lay_out(folder, step, state.point, trainer)
        kept.bound(self.workdir, tell)

    def _put_in_place(self, step: Step) -> Result:
        """Move the finished result of a step to its own folder, and restore its files."""
        tell = partial(self.reporter.tell, step.name)
        state = kept.arrange(self.plan, step, self.workdir, tell)
        assert state.result is not None
        gone = records.restore(state.result, tell)
        for name in records.newly_lost(state.result, gone) if state.state == "cached" else ():
            path = state.result.file(name)
            tell(records.damage(path, "nothing needs it, and the result of the stage stands"))
        kept.bound(self.workdir, tell)
        return state.result

    def _put_inputs_in_place(self, name: str) -> None:
        """Restore the results that a single step starts from, as far as `.kept` holds them."""
        for state in status(self.plan, self.workdir):
            if state.is_done and state.step.name in self._before(name):
                self._put_in_place(state.step)

    def _before(self, name: str) -> set[str]:
        """The steps that lead to a step."""
        inputs = self.plan.step(name).inputs
        return set(inputs).union(*map(self._before, inputs))

    def _judge(self, step: Step, known: Result, started: float) -> Record:
        """Evaluate the checkpoints of a finished step again, in a folder beside it, and keep its
        tensors."""
        if gone := results.damaged(known):
            warning = QS936.warning(
                f"{len(gone)} kept epochs of stage {step.name} are gone or damaged: "
                f"{quote_list(gone)}",
                help="the best of the others is chosen; to have every epoch again, delete "
                f"`{known.folder}` and run the stage again",
                at=f"/stages/{step.name}",
            )
            self.reporter.tell(step.name, warning)
        folder = kept.judged_folder(self.workdir, step.name)
        records.begin(folder, step)
        carry_over(known.opened(step), step, folder, judged=False)
        self._started(step, None)
        job = self._job(step, folder)
        outcome = self._perform(step, job, judged=known.folder)
        made = records.write(folder, step, outcome, time.monotonic() - started)
        kept.complete_exchange(self.workdir, step.name)
        return made

    def _warn_of_other_inputs(self, step: Step) -> None:
        """Warn where `--step` starts from a result with other settings, which a run of all steps
        would replace."""
        for name in sorted(self._before(step.name)):
            result = results.find(self.workdir / name, name)
            if result is None or result.record is None or result.is_of(self.plan.step(name)):
                continue
            warning = QS927.warning(
                f"stage {step.name} builds on a result of stage {name} that was made "
                "with other settings than the spec has now",
                help="`qatspec plan` says what changed; `--with-deps` runs it again first",
                at=f"/stages/{step.name}",
            )
            self.reporter.tell(step.name, warning)

    def _demand_inputs(self, step: Step) -> None:
        """Raise DiagnosticError QS905, with the command, unless what the step starts from holds."""
        for name in step.inputs:
            result = results.find(self.workdir / name, name)
            if result is None or result.record is None:
                state = "is missing"
            elif results.lost(result, needed(self.plan, name)):
                state = "is damaged"
            else:
                records.restore(result, partial(self.reporter.tell, name))
                continue
            command = f"qatspec run {self.plan.spec.document.path} --workdir {self.workdir}"
            raise QS905.error(
                f"stage {step.name} starts from stage {name}, whose result {state}",
                help=f"run `{command} --step {name}` first, or `{command} --step {step.name} "
                "--with-deps` for both (with the same --set, if any)",
                at=f"/stages/{step.name}",
            )

    def _started(self, step: Step, resumed_from: int | None) -> None:
        self.reporter.emit(
            "step_started",
            step.name,
            number=self.wanted.index(step.name) + 1,
            total=len(self.wanted),
            resumed_from=resumed_from,
        )
