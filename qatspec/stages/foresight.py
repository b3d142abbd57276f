"""What the march would refuse, found before any training: the model calibrated on one random batch,
lowered, and every op held against the march."""

from __future__ import annotations

import copy
from collections.abc import Collection
from dataclasses import replace

import torch

from qatspec.backend.legalise import refusals
from qatspec.diag import Diagnostic, DiagnosticError
from qatspec.graph import Prepared
from qatspec.lower import lower
from qatspec.prepare import set_stage
from qatspec.registry import registry
from qatspec.stages.context import Context

#: What the model's structure alone decides: neither weights nor numbers of pictures have a part.
_STRUCTURAL = ("QS701", "QS702", "QS703", "QS706", "QS801")
_ANYHOW = "to train all the same, name the stage: `--step"


def refuse_early(context: Context, later: Collection[str]) -> None:
    """Raise DiagnosticError with what the stages `later` would refuse of the spec's model whatever
    it learns: QS5xx and QS6xx of prepare, QS7xx of convert, QS801 of compile."""
    stage = next((name for name in ("qat", "calibration") if name in context.spec.stages), None)
    if stage is None or not {"qat", "calibration", "convert", "compile"} & set(later):
        return
    prepared = context.prepare(stage)
    found = march_findings(prepared, context.spec.march) if "convert" in later else []
    stands = [d for d in found if d.code in _STRUCTURAL]
    if "compile" not in later:
        stands = [d for d in stands if d.code != "QS801"]
    if stands:
        raise DiagnosticError([_refusal(d, context.stage) for d in stands])


def _refusal(found: Diagnostic, stage: str) -> Diagnostic:
    mend = "; ".join(filter(None, (found.help, f"{_ANYHOW} {stage}`")))
    return replace(found, severity="error", help=mend)


def march_findings(prepared: Prepared, march: str) -> list[Diagnostic]:
    """Warnings QS7xx for what has no integer form and QS801 for what `march` cannot run, with the
    module, the line of the model's code and the rule. `prepared`, in its calibration stage, is not
    changed; only shapes and dtypes count for the answer, so random numbers do."""
    trial = replace(prepared, model=copy.deepcopy(prepared.model))
    generator = torch.Generator().manual_seed(0)
    images = [
        torch.rand(x.shape, generator=generator).to(x.device) * 2 - 1
        for x in prepared.example_inputs
    ]
    try:
        with torch.no_grad():
            trial.model(*images)
        set_stage(trial, "eval")
        program = lower(trial, images)
    except DiagnosticError as error:
        return [replace(d, severity="warning") for d in error.diagnostics]
    record = registry().march(march)
    with registry().blame(record, f"march `{march}`, asked what it supports,"):
        refused = refusals([(op, record.supports(op, program)) for op in program.ops])
    return [replace(d, severity="warning") for d in refused]
