"""A study: trials of a spec with other values, one after the other in one work directory.

A trial is an ordinary run up to a stage. What its values do not touch is cached, results of other
trials are kept, and a killed study goes on with the trial that it was in, whose training resumes.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qatspec.api import codes, load, registry, resolve, run
from qatspec_trackers.ranges import Range

#: Below the work directory: what Optuna knows of the trials.
JOURNAL = Path("logs") / "study.jsonl"


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """What is studied.

    spec       file of the spec. overrides: values to set in every trial ("vars.fast=1").
    stage      whose metric is maximised: that which chooses the best checkpoint.
    ranges     what is varied.
    workdir    folder of the results. device: auto, cpu, cuda or cuda:N.
    """

    spec: Path
    stage: str
    ranges: Sequence[Range]
    workdir: Path
    overrides: Sequence[str] = ()
    device: str = "cpu"
    allow_code: bool = False

    def overrides_of(self, params: dict[str, Any]) -> list[str]:
        """The values to set for parameters of a trial."""
        return [*self.overrides, *(f"{r.key}={params[r.key]}" for r in self.ranges)]

    def value(self, params: dict[str, Any]) -> float:
        """Run one trial and return its metric, in points. Raises as `qatspec.api.run`."""
        spec = load(self.spec, self.overrides_of(params), allow_code=self.allow_code)
        plan = resolve(spec, device=self.device.partition(":")[0])
        summary = run(plan, self.workdir, step=self.stage, with_deps=True, device=self.device)
        metric = registry().dataset(spec.data["val"].dataset.type).metric
        return float(summary["metrics"][self.stage][metric])


def demand_optuna() -> None:
    """Raise DiagnosticError QS921 where Optuna is not installed."""
    if importlib.util.find_spec("optuna") is None:
        raise codes.QS921.error(
            "a study needs the package `optuna`, which is not installed",
            help="pip install 'qatspec[optuna]'",
        )


def conduct(study: Study, trials: int, seed: int, tell: Callable[[str], None]) -> dict[str, Any]:
    """Run trials until the study has `trials` of them, then the best one again, so that the work
    directory holds it (its results are kept, unless many trials followed).

    trials  number of finished trials. seed: of the sampler; tell: called with a line a trial.

    Returns the parameters of the best trial. Raises DiagnosticError QS921, and what a trial raises.
    """
    demand_optuna()
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend
    from optuna.trial import TrialState

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    journal = study.workdir / JOURNAL
    journal.parent.mkdir(parents=True, exist_ok=True)
    known = optuna.create_study(
        storage=JournalStorage(JournalFileBackend(str(journal))),
        study_name=study.stage,
        direction="maximize",
        load_if_exists=True,
    )
    for broken in known.get_trials(states=(TrialState.RUNNING,)):
        if broken.params:
            known.enqueue_trial(broken.params)
        known.tell(broken.number, state=TrialState.FAIL)
    while (done := len(known.get_trials(states=(TrialState.COMPLETE,)))) < trials:
        # a sampler for each trial: a study that was killed draws what it would have drawn
        known.sampler = optuna.samplers.TPESampler(seed=seed + done)
        trial = known.ask()
        params = {r.key: r.suggest(trial) for r in study.ranges}
        value = study.value(params)
        known.tell(trial, value)
        shown = ", ".join(f"{key}={value}" for key, value in params.items())
        tell(f"{done + 1}/{trials}  {value:.2f}  {shown}")
    best = dict(known.best_params)
    study.value(best)
    return best
