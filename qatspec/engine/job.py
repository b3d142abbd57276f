"""A stage in a process: what the process needs to run it, and how it runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from qatspec.plan import Plan
from qatspec.plan.opened import JOURNAL
from qatspec.registry import registry
from qatspec.registry.recorder import recording
from qatspec.spec import Spec
from qatspec.stages import JUDGE, RUN, Context, Outcome
from qatspec.train.distributed import ALONE, Processes
from qatspec.train.process import keep_freed_memory, make_repeatable, pick_device

#: Examples of a data set in a smoke run.
SMOKE_EXAMPLES = 8


@dataclass(frozen=True)
class Job:
    """Everything that another process needs to run a stage together with this one."""

    plan: Plan
    stage: str
    workdir: Path
    folder: Path
    device: str
    smoke: bool
    threads: int
    profile: bool = False

    def recording(self, group: Processes = ALONE) -> AbstractContextManager[None]:
        """Record what file plugins of the spec read, if it names any."""
        return recording(self.journal(group)) if self.plan.spec.plugins else nullcontext()

    def journal(self, group: Processes) -> Path:
        """The file that this process records in."""
        return (group.scratch or self.folder) / JOURNAL

    @property
    def seed(self) -> int:
        """The seed that the stage asks for, else the spec's."""
        spec = self.plan.spec
        asked = spec.stages[self.stage].seed
        return spec.seed if asked is None else asked

    def context(
        self, group: Processes, report: Callable[[str, Mapping[str, Any]], None] | None = None
    ) -> Context:
        step = self.plan.step(self.stage)
        return Context(
            spec=self.plan.spec,
            stage=self.stage,
            workdir=self.workdir,
            folder=self.folder,
            source=step.inputs[0] if step.inputs else None,
            digests={"step": step.digest, "evaluation": step.evaluation},
            device=pick_device(self.device, group.local_rank),
            seed=make_repeatable(self.seed, self.stage),
            group=group,
            limit=SMOKE_EXAMPLES if self.smoke else None,
            profile=self.profile,
            report=report or (lambda kind, data: None),
        )


def run_stage(
    group: Processes,
    job: Job,
    judging: bool = False,
    report: Callable[[str, Mapping[str, Any]], None] | None = None,
) -> Outcome:
    """Run the stage of `job` in one of the processes of `group`; the result is that of rank 0.
    judging: evaluate what the finished stage made."""
    torch.set_num_threads(job.threads)
    keep_freed_memory()
    with job.recording(group):
        if not group.is_main:
            load_file_plugins(job.plan.spec)
        outcome = (JUDGE if judging else RUN)[job.stage](job.context(group, report))
    if group.world > 1 and job.plan.spec.plugins:
        _gather_journals(group, job)
    return outcome


def _gather_journals(group: Processes, job: Job) -> None:
    """Append to the journal of rank 0 what processes of other machines recorded."""
    recorded = job.journal(group) if group.scratch is not None else None
    text = (
        recorded.read_text(encoding="utf-8") if recorded is not None and recorded.exists() else ""
    )
    if recorded is not None:
        recorded.unlink(missing_ok=True)
    texts = group.gather(text)
    if group.is_main:
        with job.journal(group).open("a", encoding="utf-8") as file:
            file.writelines(texts)


def load_file_plugins(spec: Spec) -> None:
    """Load the plugin files of the spec in a process that has not loaded the spec; the user has
    already allowed them."""
    for number, name in enumerate(spec.plugins):
        at = f"/plugins/{number}"
        registry().include(Path(spec.document.span(at).file).parent / name, at)
