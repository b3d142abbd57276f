"""Chooses the batch sizes that a spec leaves to its first run, and records them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from qatspec.engine.job import Job
from qatspec.engine.reporting import Reporter
from qatspec.plan import Plan, resolve
from qatspec.plan.batch_sizes import FILE, FORMAT, model_digest, recorded, with_recorded_sizes
from qatspec.source.pointer import split
from qatspec.spec import TRIED, unchosen, with_sizes
from qatspec.stages.batch_size import choose_batch_size
from qatspec.train.distributed import ALONE
from qatspec.train.files import write_json

#: A role of data -> the stages that may train on it.
_TRAINED = {"train": ("float", "qat"), "qat": ("qat",)}


def with_chosen_sizes(
    plan: Plan,
    workdir: Path,
    wanted: Sequence[str],
    *,
    device: str,
    processes: int,
    smoke: bool,
    reporter: Reporter,
) -> Plan:
    """The plan with a number for each batch size that is `auto`: the one that is recorded in the
    work directory, or else one that is chosen and recorded now. A smoke run takes two examples.

    wanted   the steps of the run: a size is measured for those of them that train with it.

    Raises DiagnosticError: QS903, and what a stage raises on a batch.
    """
    spec = plan.spec
    if not unchosen(spec):
        return plan
    if smoke:
        return _resolved(plan, with_sizes(spec, dict.fromkeys(unchosen(spec), TRIED)))
    spec = with_recorded_sizes(spec, workdir)
    known, of_model = dict(recorded(workdir)), model_digest(spec)
    sizes = dict(spec.chosen_sizes)
    for at in unchosen(spec):
        role, stages = _users(plan, at)
        tried = [stage for stage in stages if stage in wanted] or stages
        job = Job(plan, tried[0], workdir, workdir, device, False, torch.get_num_threads())
        context = job.context(ALONE, partial(reporter.report, tried[0]))
        chosen = choose_batch_size(context, role, tried, processes)
        sizes[at] = chosen.size
        known[at] = {"size": chosen.size, "model": of_model, "why": chosen.why}
        write_json(workdir / FILE, {"format": FORMAT, "chosen": known})
        key = split(at)[-1]
        message = f"`{key}: auto` of {_owner(at)} is {chosen.size}: {chosen.why}"
        reporter.tell(tried[0], f"{message}; `{FILE}` records it")
    return _resolved(plan, with_sizes(plan.spec, sizes))


def _users(plan: Plan, at: str) -> tuple[str, list[str]]:
    """The data and the stages of a batch size; where no stage trains with it, float."""
    spec = plan.spec
    section, name, _ = split(at)
    if section == "stages":
        return ("qat" if name == "qat" else "train"), [name]
    stages = [
        stage
        for stage in _TRAINED[name]
        if stage in spec.stages
        and spec.stages[stage].batch_size is None
        and spec.data[stage if stage == "qat" else "train"].at == f"/data/{name}"
    ]
    return name, stages or [next(iter(spec.stages))]


def _owner(at: str) -> str:
    section, name, _ = split(at)
    return f"data.{name}" if section == "data" else f"stage {name}"


def _resolved(plan: Plan, spec: Any) -> Plan:
    """The plan of a spec with other values, for the machine that `plan` is for."""
    machines = [step.keys for step in plan.steps if "device" in step.keys]
    keys = machines[0] if machines else {}
    processes = [each["nproc"] for each in machines if "nproc" in each]
    return resolve(
        spec,
        device=keys.get("device", "cpu"),
        threads=keys.get("threads"),
        nproc=processes[0] if processes else 1,
    )
