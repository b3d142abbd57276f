"""A stage in a process: what the process needs to run it, and how it runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qatspec.plan import Plan
from qatspec.plan.opened import JOURNAL
from qatspec.registry import registry
from qatspec.registry.recorder import recording
from qatspec.spec import Spec
from qatspec.stages import RUN, Context, Outcome
from qatspec.train.distributed import Processes
from qatspec.train.process import make_repeatable, pick_device

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

    def recording(self) -> AbstractContextManager[None]:
        """Record what file plugins of the spec read, if it names any."""
        return recording(self.folder / JOURNAL) if self.plan.spec.plugins else nullcontext()

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
            device=pick_device(self.device, group.rank),
            seed=make_repeatable(self.plan.spec.seed, self.stage),
            group=group,
            limit=SMOKE_EXAMPLES if self.smoke else None,
            report=report or (lambda kind, data: None),
        )


def run_stage(
    group: Processes, job: Job, report: Callable[[str, Mapping[str, Any]], None] | None = None
) -> Outcome:
    with job.recording():
        _load_file_plugins(job.plan.spec)
        return RUN[job.stage](job.context(group, report))


def _load_file_plugins(spec: Spec) -> None:
    """Load the plugin files of the spec in a spawned process; the user has already allowed them."""
    for number, name in enumerate(spec.plugins):
        at = f"/plugins/{number}"
        registry().include(Path(spec.document.span(at).file).parent / name, at)
