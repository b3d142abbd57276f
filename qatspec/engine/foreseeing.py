"""Candidates of a stage whose settings are tried before anything trains."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from qatspec.diag import DiagnosticError, Note
from qatspec.engine.candidates import own_steps
from qatspec.plan import Plan, PlannedCandidate, step_status
from qatspec.spec import Component, Spec, Trainer

#: What a trial of a stage does not depend on, among the settings of an optimizer.
_NUMBERS = ("lr", "weight_decay")


class Trial(NamedTuple):
    """A candidate to try: from the stage `first` on, and `later` stages."""

    candidate: PlannedCandidate
    first: str
    later: tuple[str, ...]


def trials_of_candidates(
    plan: Plan, workdir: Path, later: Sequence[str], first: str | None
) -> Iterator[Trial]:
    """Trials of the candidates that are not finished, without those that would repeat another one.
    Stages behind the tried one take part where another rule of quantization reaches them.

    later: the wanted stages. first: the stage that trains before the candidates, whose spec was
    tried; None: each candidate begins with its first stage that it does not share.
    """
    trials = [] if first is None else [plan.spec]
    names = [step.name for step in plan.steps]
    for candidate in plan.candidates:
        step, spec = candidate.plan.step(candidate.stage), candidate.plan.spec
        if step_status(candidate.plan, step, candidate.folder(workdir)).state == "cached":
            continue
        if _trained(spec) in map(_trained, trials):
            continue
        begin = first or own_steps(plan, candidate)[0]
        last = names.index(candidate.stage)
        behind = [name for name in later if names.index(name) > last]
        if _quantized(spec) in map(_quantized, trials):
            behind = []
        trials.append(spec)
        yield Trial(candidate, begin, (*names[names.index(begin) + 1 : last + 1], *behind))


@contextmanager
def of_candidate(candidate: PlannedCandidate) -> Iterator[None]:
    """Inside, diagnostics have places of the candidate's spec, and say which candidate it is."""
    try:
        with candidate.plan.spec.document.located():
            yield
    except DiagnosticError as error:
        note = Note(f"candidate `{candidate.name}` was tried before anything trains")
        raise DiagnosticError(
            [replace(d, notes=(*d.notes, note)) for d in error.diagnostics]
        ) from error


def _quantized(spec: Spec) -> Any:
    """What decides the integers of a spec's model."""
    return [(name, spec.quantization(name)) for name in spec.stages]


def _trained(spec: Spec) -> Any:
    """What decides whether a spec's stages can be run, but for what they begin with."""
    stages = [
        (name, stage.batch_size, _without_numbers(stage.trainer))
        for name, stage in spec.stages.items()
    ]
    return _quantized(spec), stages


def _without_numbers(trainer: Trainer | None) -> Trainer | None:
    """The trainer without how long it trains and how fast."""
    if trainer is None:
        return None
    optimizer = trainer.optimizer
    if optimizer is not None:
        params = {k: v for k, v in optimizer.params.items() if k not in _NUMBERS}
        optimizer = replace(optimizer, params=params)
    schedule = Component(type="", params={})
    return replace(trainer, epochs=None, steps=None, optimizer=optimizer, scheduler=schedule)
