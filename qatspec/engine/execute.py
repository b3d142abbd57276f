"""Runs a Plan: finished steps are skipped, interrupted ones resume, and every end leaves a
summary."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from qatspec.engine import summary as summaries
from qatspec.engine.batch_sizes import with_chosen_sizes
from qatspec.engine.candidates import lay_out as lay_out_candidate, own_steps
from qatspec.engine.job import load_file_plugins
from qatspec.engine.leftovers import sweep_leftovers
from qatspec.engine.lock import locked
from qatspec.engine.logs import RunLog
from qatspec.engine.reporting import OnEvent, Reporter
from qatspec.engine.walk import Walk
from qatspec.engine.wanted import smoke_folder, smoke_plan, steps_to_run
from qatspec.plan import (
    Plan,
    PlannedCandidate,
)
from qatspec.process import interrupt
from qatspec.registry.recorder import ignore
from qatspec.train.distributed import Ranks
from qatspec.train.process import pick_device


def run(
    plan: Plan,
    workdir: str | Path,
    *,
    step: str | None = None,
    with_deps: bool = False,
    device: str = "auto",
    ranks: Ranks | None = None,
    on_event: OnEvent | None = None,
    resume: bool = True,
    smoke: bool = False,
    profile: bool = False,
    track: Sequence[str] = (),
    jobs: int | None = None,
) -> summaries.Summary:
    """Run the plan's steps in order.

    plan       what `resolve` gave.
    workdir    the folder of the results; made where it is missing.
    step       this stage alone, from the checkpoint that is there; with_deps: with what it needs.
    device     auto, cpu, cuda or cuda:N.
    ranks      the processes of a launcher, of which this one is rank 0; the others are in
               `Ranks.serve`. None: this process alone.
    on_event   called with every StageEvent, as plugins are.
    resume     False: an interrupted step starts over, and its checkpoints are removed.
    profile    report where the time of each training went, as an event "profile".
    track      names of trackers, which plugins read in the event "run_started".
    jobs       number of candidates that run at the same time, each in a process; None: one for
               each GPU where `device` names none of them, else one. With `ranks`, always one.
    smoke      two steps a stage on a few examples, in `<workdir>-smoke`.

    Returns what `<workdir>/summary.json` holds.

    Raises DiagnosticError: QS900 (the directory is in use), QS903 (a file cannot be written), QS905
    (what the step starts from is missing), QS907 (no such device), QS926 (no such stage), and what
    the stages raise. Interrupted, a KeyboardInterrupt,
    after SIGINT, SIGTERM or SIGHUP; a stage that trains has then saved its last step.
    """
    workdir = smoke_folder(Path(workdir)) if smoke else Path(workdir)
    wanted = steps_to_run(plan, step, with_deps)
    alone = step is not None and not with_deps
    pick_device(device)
    with interrupt.handled(), locked(workdir), RunLog(workdir) as log:
        ignore(workdir)
        sweep_leftovers(workdir, None if smoke else smoke_folder(workdir))
        reporter = Reporter(log, on_event)
        plan = with_chosen_sizes(
            plan,
            workdir,
            wanted,
            device=device,
            processes=ranks.world if ranks else 1,
            smoke=smoke,
            reporter=reporter,
        )
        plan = smoke_plan(plan) if smoke else plan
        return Walk(
            plan, workdir, wanted, device, ranks, reporter, resume, smoke, profile, alone, track,
            jobs, try_one=run_candidate, advises=not smoke,
        ).walk()  # fmt: skip


def run_candidate(
    plan: Plan,
    candidate: PlannedCandidate,
    workdir: Path,
    *,
    device: str,
    ranks: Ranks | None,
    on_event: OnEvent,
    resume: bool,
    smoke: bool,
    profile: bool,
) -> None:
    """Run the steps of a candidate in its work directory, of which finished ones are skipped.

    plan      of the spec. workdir: of the spec, with the results that the candidate starts from.
    The run has tried before what the candidate's stages would refuse.

    Raises as `run` does, with places of the candidate's spec.
    """
    folder = lay_out_candidate(plan, candidate, workdir)
    spec = candidate.plan.spec
    with (
        interrupt.handled(),
        locked(folder),
        RunLog(folder) as log,
        spec.document.located(),
    ):
        load_file_plugins(spec)
        ignore(workdir)
        sweep_leftovers(folder, smoke_folder(folder))
        reporter = Reporter(log, on_event, to_plugins=False)
        Walk(
            candidate.plan, folder, own_steps(plan, candidate), device, ranks, reporter, resume,
            smoke, profile, False, (), None, True, advises=False,
        ).walk()  # fmt: skip
