"""TensorBoard: `<workdir>/logs/tensorboard/<stage>`, for `tensorboard --logdir`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter

from qatspec.api import StageEvent
from qatspec_trackers.tracker import numbers, step_of


class Tracking:
    """Writes the numbers of each stage. What an interrupted training had done behind the checkpoint
    that it resumes from is hidden (`purge_step`)."""

    def __init__(self, run: Mapping[str, Any]) -> None:
        self._folder = Path(run["workdir"]) / "logs" / "tensorboard"
        self._writer: SummaryWriter | None = None

    def show(self, event: StageEvent) -> None:
        """Show an event (see Tracker)."""
        if event.kind == "step_started":
            resumed = event.data["resumed_from"]
            folder = str(self._folder / event.step)
            self._writer = SummaryWriter(
                folder, purge_step=None if resumed is None else resumed + 1
            )
        if self._writer is None:
            return
        for name, value in numbers(event).items():
            self._writer.add_scalar(name, value, step_of(event))
        if event.kind in ("step_finished", "step_failed"):
            self._writer.close()
            self._writer = None
