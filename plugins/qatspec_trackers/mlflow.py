"""MLflow: a run in the experiment of the spec's name, where MLFLOW_TRACKING_URI says."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag

from qatspec.api import StageEvent
from qatspec_trackers.tracker import allowed, numbers, settings_of, step_of

#: Limits of MLflow's service: numbers of a request, and characters of a parameter.
_MOST, _LONGEST = 900, 6000
_KEY = "qatspec.workdir"


class Tracking:
    """Writes parameters and numbers. A work directory goes on with its run as long as the settings
    stay the same."""

    def __init__(self, run: Mapping[str, Any]) -> None:
        self._client = MlflowClient()
        known_experiment = self._client.get_experiment_by_name(run["spec"])
        if known_experiment is not None:
            experiment = known_experiment.experiment_id
        else:
            experiment = self._client.create_experiment(run["spec"])
        tags = {_KEY: run["workdir"], "qatspec.digest": run["digest"]}
        query = " and ".join(f"tags.`{name}` = '{value}'" for name, value in tags.items())
        known = self._client.search_runs([experiment], query, max_results=1)
        self._waiting: list[Metric] = []
        if known:
            self._run = known[0].info.run_id
            self._client.update_run(self._run, "RUNNING")
            return
        started = self._client.create_run(experiment, tags=tags)
        self._run = started.info.run_id
        settings = [Param(name, value[:_LONGEST]) for name, value in settings_of(run).items()]
        for first in range(0, len(settings), 100):
            self._client.log_batch(self._run, params=settings[first : first + 100])

    def show(self, event: StageEvent) -> None:
        """Show an event (see Tracker)."""
        now = int(time.time() * 1000)
        for name, value in numbers(event).items():
            self._waiting.append(Metric(allowed(name), value, now, step_of(event)))
        if event.kind != "progress" or len(self._waiting) >= _MOST:
            self._send()
        if event.kind == "step_finished":
            tag = RunTag(f"qatspec.{event.step}", "finished")
            self._client.log_batch(self._run, tags=[tag])
        if event.kind == "step_failed":
            self._client.set_terminated(self._run, "FAILED")
        if event.kind == "run_finished":
            self._client.set_terminated(self._run)

    def _send(self) -> None:
        for first in range(0, len(self._waiting), _MOST):
            self._client.log_batch(self._run, metrics=self._waiting[first : first + _MOST])
        self._waiting.clear()
