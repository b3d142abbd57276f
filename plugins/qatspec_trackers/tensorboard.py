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
        self._writers: dict[str, SummaryWriter] = {}  # candidates may run at the same time

    def show(self, event: StageEvent) -> None:
        """Show an event (see Tracker)."""
        if event.kind == "step_started":
            resumed = event.data["resumed_from"]
            folder = str(self._folder / event.step)
            self._writers[event.step] = SummaryWriter(
                folder, purge_step=None if resumed is None else resumed + 1
            )
        writer = self._writers.get(event.step)
        if writer is None:
            return
        for name, value in numbers(event).items():
            writer.add_scalar(name, value, step_of(event))
        if event.kind in ("step_finished", "step_failed"):
            writer.close()
            del self._writers[event.step]
