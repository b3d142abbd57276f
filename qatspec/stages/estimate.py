"""The modelled performance of a network before any training: its shapes decide it, so one random
batch gives the scales."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from qatspec.backend import compile as compile_program, perf
from qatspec.backend.advise import Advised, advise
from qatspec.diag.codes import QS805
from qatspec.lower import lower
from qatspec.prepare import prepare_spec, set_stage
from qatspec.prepare.inputs import random_inputs
from qatspec.program import Artifact, Program
from qatspec.registry import registry
from qatspec.spec import Spec
from qatspec.stages.context import build_model
from qatspec.stages.foresight import stand_ins
from qatspec.types import TILED_OPTIONS


def untrained_perf(spec: Spec, stage: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Model the performance of an untrained network on the spec's march.

    spec     the spec; its data is not opened.
    stage    the stage whose quantization the network gets.
    options  of the compile stage; what plans the commands is used, and no frame is verified.

    Returns the summary of `perf`, and the time of the CPU for `predict` where the model tells how
    many numbers it reads (`predict_numbers`). Raises DiagnosticError with what prepare, convert or
    compile refuses.
    """
    model = build_model(spec)
    program, outputs = _untrained(spec, stage, model)
    artifact = compile_program(program, spec.march, **_planning(options))
    summary: dict[str, Any] = perf(artifact)["summary"]
    host = registry().march(spec.march).capabilities.host
    numbers = getattr(model, "predict_numbers", None)
    if host is not None and numbers is not None:
        us = numbers(outputs) / host.elements_per_us
        summary["predictions on the CPU, at most, not in the latency (ms)"] = round(us / 1e3, 6)
    return summary


def untrained_advice(
    spec: Spec,
    stage: str,
    options: Mapping[str, Any],
    *,
    most: int,
    report: Callable[[str], None],
) -> Advised:
    """Find what costs most of an untrained network on the spec's march, and what to change.

    spec, stage, options  as in `untrained_perf`.
    most    how many changes are compiled.
    report  called with a line before each compilation.

    Raises DiagnosticError as `untrained_perf`, QS805 for a march without a model of time.
    """
    record = registry().march(spec.march)
    if record.capabilities.hardware is None:
        raise QS805.error(
            f"there is no performance model for {spec.march}",
            help="advise for one of the marches that `qatspec perf SPEC --march all` lists",
        )
    planning = _planning(options)

    def compiled(program: Program, chosen: Mapping[str, Any]) -> Artifact:
        return compile_program(program, spec.march, **chosen)

    schema = record.options.get("properties", {})
    settings: dict[str, dict[str, Any]] = {}
    for name, value in (("opt", "O3"), ("cores", schema.get("cores", {}).get("maximum", 1))):
        usual = TILED_OPTIONS[name]["default"]
        if name in schema and planning.get(name, usual) != value:
            settings[f"compile: {{{name}: {value}}}"] = {name: value}
    program = untrained_program(spec, stage)
    return advise(program, compiled, planning, most=most, settings=settings, report=report)


def untrained_program(spec: Spec, stage: str) -> Program:
    """Return the integers of an untrained network: one random batch gives the scales.

    spec, stage: as in `untrained_perf`. Raises DiagnosticError with what prepare or convert
    refuses.
    """
    return _untrained(spec, stage, build_model(spec))[0]


def _untrained(spec: Spec, stage: str, model: torch.nn.Module) -> tuple[Program, Any]:
    """The Program of an untrained model, and what its forward returns for one random batch."""
    prepared = prepare_spec(spec, stage, model)
    inputs = random_inputs(prepared.example_inputs)
    with torch.no_grad(), stand_ins(prepared.model) as spoilt:
        outputs = prepared.model(*inputs)
    for fake_quant in spoilt:
        fake_quant.not_finite.zero_()
    set_stage(prepared, "eval")
    return lower(prepared, prepared.example_inputs, name=spec.name), outputs


def _planning(options: Mapping[str, Any]) -> dict[str, Any]:
    planning = {key: value for key, value in options.items() if key in TILED_OPTIONS}
    return {**planning, "verify": False}
