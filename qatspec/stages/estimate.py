"""The modelled performance of a network before any training: its shapes decide it, so one random
batch gives the scales."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from qatspec.backend import compile as compile_program, perf
from qatspec.lower import lower
from qatspec.prepare import prepare_spec, set_stage
from qatspec.prepare.inputs import random_inputs
from qatspec.spec import Spec
from qatspec.stages.context import build_model
from qatspec.stages.foresight import stand_ins
from qatspec.types import TILED_OPTIONS


def untrained_perf(spec: Spec, stage: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Model the performance of an untrained network on the spec's march.

    spec     the spec; its data is not opened.
    stage    the stage whose quantization the network gets.
    options  of the compile stage; what plans the commands is used, and no frame is verified.

    Returns the summary of `perf`. Raises DiagnosticError with what prepare, convert or compile
    refuses.
    """
    prepared = prepare_spec(spec, stage, build_model(spec))
    inputs = random_inputs(prepared.example_inputs)
    with torch.no_grad(), stand_ins(prepared.model) as spoilt:
        prepared.model(*inputs)
    for fake_quant in spoilt:
        fake_quant.not_finite.zero_()
    set_stage(prepared, "eval")
    program = lower(prepared, prepared.example_inputs, name=spec.name)
    planning = {key: value for key, value in options.items() if key in TILED_OPTIONS}
    artifact = compile_program(program, spec.march, **{**planning, "verify": False})
    summary: dict[str, Any] = perf(artifact)["summary"]
    return summary
