"""Weights & Biases, offline unless WANDB_MODE says otherwise: `<workdir>/logs/wandb`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import wandb

from qatspec.api import StageEvent
from qatspec_trackers.tracker import numbers, step_of


class Tracking:
    """Writes parameters and numbers. Each stage has its own axis of steps, `<stage>/step`; `wandb
    sync` sends an offline run. A resumed run has the same id, and its numbers follow the old ones.
    """

    def __init__(self, run: Mapping[str, Any]) -> None:
        folder = Path(run["workdir"]) / "logs"
        folder.mkdir(parents=True, exist_ok=True)
        mode: Any = os.environ.get("WANDB_MODE", "offline")
        self._run = wandb.init(
            project=run["spec"],
            id=run["digest"][:16],
            resume="allow",
            mode=mode,
            dir=str(folder),
            config=dict(run["settings"]),
            settings=wandb.Settings(silent=True, console="off"),
        )
        for stage in run["steps"]:
            self._run.define_metric(f"{stage}/step")
            self._run.define_metric(f"{stage}/*", step_metric=f"{stage}/step")

    def show(self, event: StageEvent) -> None:
        """Show an event (see Tracker)."""
        if values := numbers(event):
            self._run.log({**values, f"{event.step}/step": step_of(event)})
        if event.kind in ("run_finished", "step_failed"):
            self._run.finish(exit_code=int(event.kind == "step_failed"))
