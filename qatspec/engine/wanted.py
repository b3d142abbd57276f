"""What a run is asked for: the steps of a plan, all or some, in full or as a smoke run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from qatspec.diag.codes import QS926
from qatspec.diag.words import quote_list
from qatspec.plan import Plan, with_keys

#: Optimizer steps of a stage in a smoke run.
SMOKE_STEPS = 2


def steps_to_run(plan: Plan, step: str | None, with_deps: bool) -> tuple[str, ...]:
    """The names of the steps to run: all, or `step` alone, or with what it needs.

    Raises DiagnosticError QS926 where the spec has no such stage."""
    names = [s.name for s in plan.steps]
    if step is None:
        return tuple(names)
    if step not in names:
        raise QS926.error(
            f"the spec has no stage `{step}`", help=f"it has {quote_list(names)}", at="/stages"
        )
    needed = {step}
    if with_deps:
        for earlier in reversed(plan.steps):
            if earlier.name in needed:
                needed.update(earlier.inputs)
    return tuple(name for name in names if name in needed)


def smoke_folder(workdir: Path) -> Path:
    """The work directory of smoke runs beside another one."""
    return workdir.with_name(f"{workdir.name}-smoke")


def smoke_plan(plan: Plan) -> Plan:
    """The plan with two training steps in each stage and its own digests."""
    stages = {
        name: stage
        if stage.trainer is None
        else replace(stage, trainer=replace(stage.trainer, epochs=None, steps=SMOKE_STEPS))
        for name, stage in plan.spec.stages.items()
    }
    steps = tuple(with_keys(step, {"smoke": SMOKE_STEPS}) for step in plan.steps)
    candidates = tuple(replace(c, plan=smoke_plan(c.plan)) for c in plan.candidates)
    spec = replace(plan.spec, stages=stages)
    return replace(plan, spec=spec, steps=steps, candidates=candidates)
