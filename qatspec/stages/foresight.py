"""Find ops that the march refuses for all weights of a model."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from qatspec.backend.legalise import refusals
from qatspec.diag import Collector, Diagnostic, DiagnosticError
from qatspec.diag.codes import QS708, QS724
from qatspec.diag.words import quote_list
from qatspec.export import export_qat_onnx
from qatspec.graph import Prepared
from qatspec.graph.deploy import Deployment, deploy
from qatspec.graph.source import line_span
from qatspec.ir import RANGE, Overflow, interval
from qatspec.kinds import Trait, has, op_range
from qatspec.lower import NotLowered, lower
from qatspec.prepare import Refused, set_stage
from qatspec.prepare.inputs import random_inputs
from qatspec.process import scratch_folder
from qatspec.program import Program
from qatspec.quant.fake_quant import FakeQuantize
from qatspec.registry import registry


def march_findings(prepared: Prepared, march: str) -> list[Diagnostic]:
    """Warnings for what convert and compile would refuse of `prepared`, which is in its calibration
    stage and is not changed. Shapes and dtypes decide the answer, so one random batch does."""
    trial = replace(prepared, model=copy.deepcopy(prepared.model))
    inputs = random_inputs(prepared.example_inputs)
    try:
        with torch.no_grad(), stand_ins(trial.model) as spoilt:
            trial.model(*inputs)
        for fake_quant in spoilt:
            fake_quant.not_finite.zero_()
        set_stage(trial, "eval")
    except DiagnosticError as error:
        return [replace(d, severity="warning") for d in error.diagnostics]
    return [replace(d, severity="warning") for d in integer_refusals(trial, march)]


def further_refusals(error: Refused, march: str) -> list[Diagnostic]:
    """Warnings for what convert and compile would refuse of a model that prepare refuses, as far as
    it could be prepared, on lines of which prepare does not report anything."""
    further: list[Diagnostic] = []
    if error.prepared is not None:
        with Collector(error.diagnostics).collect():
            further = march_findings(error.prepared, march)
    known = {line for d in error.diagnostics for line in _lines(d)}
    return [d for d in further if not _lines(d) or not known.issuperset(_lines(d))]


def _lines(diagnostic: Diagnostic) -> set[tuple[str, int]]:
    """The lines of code that a diagnostic points at."""
    spans = (diagnostic.span, *(note.span for note in diagnostic.notes))
    return {(span.file, span.line) for span in spans if span is not None}


@dataclass(frozen=True, slots=True)
class Integers:
    """What the integers of a prepared model are, found without writing files.

    refusals    what of it has no integer form, no ONNX form, or is nothing for its march.
    deployment, program: those of the model; None where something has no integer form.
    """

    refusals: list[Diagnostic]
    deployment: Deployment | None = None
    program: Program | None = None


def integers_of(prepared: Prepared, march: str, example_inputs: Sequence[Any]) -> Integers:
    """Lower `prepared`, which is in its eval stage, and ask `march` what it runs.

    The refusals are QS7xx for what has no integer form, and, of the rest, QS724 for what has no
    ONNX form and QS801 for what `march` cannot run, with the module, the line of the model's code
    and the rule. example_inputs: as forward takes them."""
    diagnostics: Sequence[Diagnostic] = ()
    deployment, untraced = None, Collector()
    try:
        deployment = deploy(prepared, example_inputs, untraced)
        traced = None if untraced else deployment  # what cannot be traced is lower's to report
        program = lower(prepared, example_inputs, deployment=traced)
    except NotLowered as error:
        diagnostics, program = (*error.diagnostics, *_without_onnx(prepared, error)), error.part
    except DiagnosticError as error:
        return Integers(list(error.diagnostics))
    record = registry().march(march)
    with registry().attribute_errors(record, f"march `{march}`, asked what it supports,"):
        answers = [(op, record.supports(op, program)) for op in program.ops]
    refused = [*diagnostics, *refusals(answers, line_span, program=program)]
    return Integers(refused) if diagnostics else Integers(refused, deployment, program)


def integer_refusals(prepared: Prepared, march: str) -> list[Diagnostic]:
    """The refusals of `integers_of`, for inputs like those that the model was prepared with."""
    return integers_of(prepared, march, prepared.example_inputs).refusals


def _without_onnx(prepared: Prepared, error: NotLowered) -> list[Diagnostic]:
    """QS724 for each further line that has no ONNX form."""
    known = {line for d in error.diagnostics for line in _lines(d)}
    problems = Collector(error.diagnostics)
    with scratch_folder() as folder, problems.collect():
        export_qat_onnx(prepared, folder / "qat.onnx")
    return [d for d in problems.diagnostics if d.code == QS724 and not known.issuperset(_lines(d))]


def sums_at_the_limit(program: Program) -> list[Diagnostic]:
    """QS708, a warning, for products of `program` whose sums int32 would not hold if every weight
    were at the limit of its dtype: what training makes of them decides."""
    layers = []
    for op in program.ops:
        if not has(op, Trait.WEIGHTED):
            continue
        x, weight = (program.values[name] for name in op.inputs[:2])
        least = np.full(weight.shape, RANGE[weight.dtype][0])
        try:
            consts = {**program.consts, weight.name: least}
            op_range(op, [interval(*RANGE[x.dtype])], x.shape, consts)
        except Overflow:
            layers.append(op.origin.module or op.output)
    if not layers:
        return []
    return [
        QS708.warning(
            f"sums of {quote_list(sorted(set(layers)))} may not fit int32 after training: "
            "they do with the weights before it, not with every weight",
            help="nothing, unless convert refuses the trained model with QS704; fewer bits for the "
            "weights or the activations of these modules rule it out",
        )
    ]


@contextmanager
def stand_ins(model: nn.Module) -> Iterator[set[FakeQuantize]]:
    """Collect the fake-quants that see numbers which are not finite, and give them a scale in the
    end."""
    spoilt: set[FakeQuantize] = set()

    def look(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(module, FakeQuantize)
        if not bool(torch.isfinite(inputs[0]).all()):
            spoilt.add(module)

    fake_quants = [m for m in model.modules() if isinstance(m, FakeQuantize)]
    hooks = [m.register_forward_pre_hook(look) for m in fake_quants]
    try:
        yield spoilt
    finally:
        for hook in hooks:
            hook.remove()
    for module in spoilt:
        if not module.observed:
            module.set_scale(torch.ones_like(module.scale))
