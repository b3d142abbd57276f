"""The stages of a spec, tried on one batch before the first of them trains.

Every stage loads what the one before it leaves, takes one step, and the last one is converted and
compiled into a temporary folder. What is refused on the way would be refused after training too:
nothing that is tried here depends on what the model learns, but where a comment says so.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from qatspec.backend.perf import parts_on_the_cpu
from qatspec.diag import Diagnostic, DiagnosticError
from qatspec.diag.codes import QS701, QS702, QS703, QS704, QS706, QS801
from qatspec.graph import Prepared
from qatspec.prepare import Refused, set_stage
from qatspec.prepare.inputs import random_inputs
from qatspec.process import scratch_folder
from qatspec.registry import registry
from qatspec.spec import Solver, Spec, Trainer, predecessor
from qatspec.spec.model import Stage, StageName
from qatspec.stages.context import Context
from qatspec.stages.foresight import (
    further_refusals,
    integers_of,
    stand_ins,
    sums_at_the_limit,
)
from qatspec.stages.loading import load_given, prepare_from
from qatspec.stages.space import Need, demand_space, of_calibration, of_files, of_training
from qatspec.stages.tried_data import TriedData
from qatspec.train.checkpoint import load_weights

QUANTIZED = ("calibration", "qat")
#: What the model's structure alone decides: neither weights nor ranges have a part.
_STRUCTURAL = (QS701, QS702, QS703, QS706, QS801)


@dataclass(frozen=True, slots=True)
class Refusal:
    """What `stage` would refuse."""

    stage: str
    diagnostic: Diagnostic


@dataclass
class Rehearsal:
    """One pass over stages of a spec.

    context  of the first of them, whose source lies in the work directory.
    data     the spec's data, opened; None: random numbers stand for it, and no training step is
             tried.
    spoilt   the untrained model computed numbers that are not finite: they say nothing about the
             trained one, so that conversion is held against its structure alone.
    needs    the disk space of each stage, as far as it was tried.
    warnings   warnings for what training may lead to.
    weights    what was recognised in the spec's file of weights, and of_weights: its warnings.
    """

    context: Context
    stages: Sequence[str]
    data: TriedData | None = None
    refusals: list[Refusal] = field(default_factory=list)
    spoilt: bool = False
    needs: list[Need] = field(default_factory=list)
    warnings: list[Diagnostic] = field(default_factory=list)
    weights: str = ""
    of_weights: tuple[Diagnostic, ...] = ()

    def run(self) -> list[Refusal]:
        """Try the stages in order, up to the first that refuses. A refusal that depends on the
        weights says that it is a prediction."""
        states: dict[str, Mapping[str, Tensor]] = {}
        prepared: dict[str, Prepared] = {}
        if self.data is not None:
            with self._of(self.context.stage):
                self.data.check()
        for stage in self.stages:
            if self.refusals:
                break
            with self._of(stage):
                if stage == "float":
                    states[stage] = self._float()
                elif stage in QUANTIZED:
                    prepared[stage] = self._quantized(stage, self._start(stage, states))
                    states[stage] = prepared[stage].model.state_dict()
                elif stage == "convert":
                    self._converted(prepared[self._before(stage)])
        return [_as_prediction(refusal) for refusal in self.refusals]

    @contextmanager
    def _of(self, stage: str) -> Iterator[None]:
        try:
            yield
        except DiagnosticError as error:
            self.refusals += [Refusal(stage, d) for d in error.diagnostics]
            if isinstance(error, Refused):
                for d in further_refusals(error, self.context.spec.march):
                    later = "compile" if d.code == QS801 else "convert"
                    if later in self.stages:
                        self.refusals.append(Refusal(later, replace(d, severity="error")))

    def _float(self) -> Mapping[str, Tensor]:
        context = self._at("float")
        model = context.build_model()
        self.weights, self.of_weights = load_given(context, model)
        if self.data is not None:
            model.to(context.device)
            self.data.step("float", model.train())
            self.data.judge(model.eval())
            self._add_training("float", model)
        return model.state_dict()

    def _start(
        self, stage: str, states: Mapping[str, Mapping[str, Tensor]]
    ) -> Mapping[str, Tensor]:
        """The weights that `stage` starts from: those just tried, or a finished stage's."""
        source = self._before(stage)
        if source in states:
            return states[source]
        context = replace(self._at(stage), source=source)
        return context.source_checkpoint(self._solver(stage).pre_step_checkpoint)[0].weights

    def _quantized(self, stage: str, start: Mapping[str, Tensor]) -> Prepared:
        """The prepared model of `stage` after one batch, in eval stage."""
        context = self._at(stage)
        source = self._before(stage)
        prepared = prepare_from(context, stage, source, partial(self._load, stage, source, start))
        model = prepared.model
        if stage == "qat":
            set_stage(prepared, "qat")
        with stand_ins(model) as spoilt:
            if self.data is None:
                set_stage(prepared, "calibration")
                with torch.no_grad():
                    model(*random_inputs(prepared.example_inputs, context.inputs))
            else:
                model.to(context.device)
                if stage == "qat":
                    self.data.step(stage, model)
                else:
                    set_stage(prepared, "calibration")
                    self.data.observe(model)
        self.spoilt |= bool(spoilt)
        set_stage(prepared, "eval")
        if self.data is not None:
            self.data.judge(model)
            if stage == "qat":
                self._add_training(stage, model)
            else:
                self.needs.append(of_calibration(model.state_dict()))
        model.cpu()
        return prepared

    def _load(self, stage: str, source: str, start: Mapping[str, Tensor], model: nn.Module) -> None:
        """Load the weights `start` of the stage `source` as the stage does."""
        solver = self._solver(stage)
        try:
            load_weights(
                model,
                start,
                source=Path(f"{source}-checkpoint"),
                allow_miss=solver.allow_miss,
                ignore_extra=solver.ignore_extra,
            )
        except DiagnosticError as error:  # there is no such file yet
            here = [replace(d, span=None, at=f"/stages/{stage}") for d in error.diagnostics]
            raise DiagnosticError(here) from error

    def _add_training(self, stage: str, model: nn.Module) -> None:
        assert self.data is not None
        trainer = self.context.spec.stages[stage].trainer or Trainer()
        steps = self.data.epoch_steps(stage)
        self.needs.append(of_training(stage, model, model.state_dict(), trainer, steps))

    def _converted(self, prepared: Prepared) -> None:
        """Convert and compile `prepared` into a temporary folder."""
        from qatspec.stages.compile import compile_to_files
        from qatspec.stages.convert import convert

        spec, compiled = self.context.spec, "compile" in self.stages
        integers = integers_of(prepared, spec.march, self.context.example)
        problems = integers.refusals
        if integers.program is not None:
            self.warnings += sums_at_the_limit(integers.program)
        if self.spoilt:
            problems = [d for d in problems if d.code in _STRUCTURAL]
        of_march = [Refusal("compile", d) for d in problems if d.code == QS801]
        self.refusals += [Refusal("convert", d) for d in problems if d.code != QS801]
        if self.spoilt or self.refusals:
            self.refusals += of_march if compiled else []
            return
        with scratch_folder() as folder:
            drawn = random_inputs(prepared.example_inputs, self.context.inputs)
            context = replace(
                self._at("convert"), spec=_sooner(spec), folder=folder, examples=(tuple(drawn),)
            )
            with self._of("convert"):
                program = convert(context, prepared, integers.deployment)[0]
                self.needs.append(of_files("convert", folder))
            if not compiled:
                return
            if self.refusals or of_march:
                self.refusals += of_march
                return
            with self._of("compile"):
                files, _ = compile_to_files(context, program, spec.march, folder, measured=False)
                for path in files:
                    if path.name.endswith(".perf.json"):
                        summary = json.loads(path.read_text())["summary"]
                        self.warnings += parts_on_the_cpu(summary)
                self.needs.append(of_files("compile", folder, self.needs[-1].total))

    def _at(self, stage: str) -> Context:
        return replace(self.context, stage=stage, report=lambda kind, data: None)

    def _before(self, stage: str) -> str:
        """The stage that `stage` starts from."""
        spec = self.context.spec
        if stage not in spec.stages:
            return next(s for s in reversed(QUANTIZED) if s in spec.stages)
        return str(predecessor(spec, cast("StageName", stage)))

    def _solver(self, stage: str) -> Solver:
        return self.context.spec.stages[stage].solver


def preflight(context: Context, later: Sequence[str], present: int = 0) -> None:
    """Try the stage of `context` and those of `later` before the first of them trains.

    present: bytes of the first stage's files that are there already.
    Raises DiagnosticError with what one of them would refuse, QS937 where their files would not fit
    on the disk."""
    stages = (context.stage, *later)
    trial = Rehearsal(context, stages, TriedData(context, stages))
    refusals = trial.run()
    if refusals:
        raise DiagnosticError([_with_way_out(refusal, context.stage) for refusal in refusals])
    for warning in trial.warnings:
        context.report("log", {"message": warning.message, "diagnostic": warning})
    demand_space(trial.needs, context.workdir, present)


class Foreseen(NamedTuple):
    """What a trial found: refusals, warnings for what training may lead to, and what was taken
    from the spec's file of weights, "" without one."""

    refused: list[Refusal]
    warnings: list[Diagnostic]
    weights: str


def foresee(context: Context) -> Foreseen:
    """What the stages of the spec would refuse, tried without data, and convert and compile where
    the spec does not have them: errors for stages of the spec, warnings for others."""
    spec = context.spec
    stages = list(dict.fromkeys([*spec.stages, "convert", "compile"]))
    trial = Rehearsal(replace(context, stage=stages[0]), stages)
    refused = [
        r
        if r.stage in spec.stages
        else replace(r, diagnostic=replace(r.diagnostic, severity="warning"))
        for r in trial.run()
    ]
    return Foreseen(refused, [*trial.of_weights, *trial.warnings], trial.weights)


def _as_prediction(refusal: Refusal) -> Refusal:
    """The range of sums follows from the weights, which a training changes."""
    diagnostic = refusal.diagnostic
    if diagnostic.code != QS704:
        return refusal
    message = f"{diagnostic.message}; this is predicted from the weights before training"
    return replace(refusal, diagnostic=replace(diagnostic, message=message))


def _with_way_out(refusal: Refusal, first: str) -> Diagnostic:
    diagnostic = refusal.diagnostic
    if refusal.stage == first:
        return diagnostic
    anyhow = f"to train all the same, name the stage: `--step {first}`"
    return replace(diagnostic, help="; ".join(filter(None, (diagnostic.help, anyhow))))


def _sooner(spec: Spec) -> Spec:
    """`spec` with the options by which its march compiles for a trial."""
    stage = spec.stages.get("compile") or Stage(name="compile")
    options = {**stage.options, **registry().march(spec.march).trial_options}
    return replace(spec, stages={**spec.stages, "compile": replace(stage, options=options)})
