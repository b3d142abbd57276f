"""What the march would refuse, found before any training: the model calibrated on one random batch,
lowered, and every op held against the march."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import TYPE_CHECKING

from qatspec.diag import Diagnostic, DiagnosticError

if TYPE_CHECKING:
    from qatspec.graph import Prepared


def march_findings(prepared: Prepared, march: str) -> list[Diagnostic]:
    """Warnings QS7xx for what has no integer form and QS801 for what `march` cannot run, with the
    module, the line of the model's code and the rule. `prepared`, in its calibration stage, is not
    changed; only shapes and dtypes count for the answer, so random numbers do."""
    import torch

    from qatspec.backend.legalise import refusals
    from qatspec.lower import lower
    from qatspec.prepare import set_stage
    from qatspec.registry import registry

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
